"""Runs the builder: `python -m services.builder`."""

import gc

gc.disable()  # until all is there: what is made so far stays, and looking for garbage in it took long

from services.builder.app import build
from shared.process import run

if __name__ == "__main__":
    run("builder", build)
