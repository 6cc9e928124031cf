"""Runs the builder: `python -m services.builder`."""

from services.builder.app import build
from shared.process import run

if __name__ == "__main__":
    run("builder", build)
