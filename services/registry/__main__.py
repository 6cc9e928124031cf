"""Runs the registry: `python -m services.registry`."""

from services.registry.app import build
from shared.process import run


def main() -> None:
    """Run until told to stop."""
    run("registry", build)


if __name__ == "__main__":
    main()
