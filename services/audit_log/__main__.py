"""Runs the audit log: `python -m services.audit_log`."""

import gc

gc.disable()  # until all is there: what is made so far stays, and looking for garbage in it took long

from services.audit_log.app import build
from shared.process import run


def main() -> None:
    """Run until told to stop."""
    run("audit_log", build)


if __name__ == "__main__":
    main()
