"""Runs the attestor: `python -m services.attestor`."""

import gc

gc.disable()  # until all is there: what is made so far stays, and looking for garbage in it took long

from services.attestor.app import build
from shared.process import run


def main() -> None:
    """Run until told to stop."""
    run("attestor", build)


if __name__ == "__main__":
    main()
