"""Runs cleanup: `python -m services.cleanup`."""

from services.cleanup.app import build
from shared.process import run


def main() -> None:
    """Run until told to stop."""
    run("cleanup", build)


if __name__ == "__main__":
    main()
