"""Runs the scanner: `python -m services.scanner`."""

from services.scanner.app import build
from shared.process import run


def main() -> None:
    """Run until told to stop."""
    run("scanner", build)


if __name__ == "__main__":
    main()
