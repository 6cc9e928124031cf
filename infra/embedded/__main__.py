"""`python -m infra.embedded`: what `entrepot up` becomes."""

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.embedded.errors import CannotStart
from infra.embedded.folder import DataFolder, refuse_a_foreign_folder
from infra.embedded.ports import WORKERS
from infra.embedded.services import Place
from infra.embedded.suite import live


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; the exit code is 0 when it was asked to stop, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="entrepot up", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".entrepot"))
    parser.add_argument("--port-base", type=int, default=5000)
    parser.add_argument("--blobs", choices=["directory", "s3"], default="directory")
    parser.add_argument("--workers", type=_workers, default=1)
    options = parser.parse_args(arguments)
    try:
        refuse_a_foreign_folder(options.data)
        folder, run = DataFolder.at(options.data), secrets.token_hex(8)
        return live(Place(folder, options.port_base, options.blobs == "s3", run, options.workers))
    except CannotStart as error:
        print(f"entrepot: {error}", file=sys.stderr)  # noqa: T201 - for the person at the terminal
        return 1


def _workers(text: str) -> int:
    number = int(text)
    if not 1 <= number <= len(WORKERS):
        raise argparse.ArgumentTypeError(f"from 1 to {len(WORKERS)}, not {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
