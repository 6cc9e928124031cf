"""Runs identity: `python -m services.identity`."""

from services.identity.app import build
from shared.process import run


def main() -> None:
    """Run until told to stop."""
    run("identity", build)


if __name__ == "__main__":
    main()
