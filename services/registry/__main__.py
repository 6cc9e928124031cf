"""Runs the registry: `python -m services.registry`."""

from services.registry.app import build
from shared.process import run


def main() -> None:
    """Run until told to stop. asyncio has the sendfile that downloads want; uvloop has none."""
    run("registry", build, loop="asyncio")


if __name__ == "__main__":
    main()
