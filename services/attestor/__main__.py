"""Runs the attestor: `python -m services.attestor`."""

from services.attestor.app import build
from shared.process import run


def main() -> None:
    """Run until told to stop."""
    run("attestor", build)


if __name__ == "__main__":
    main()
