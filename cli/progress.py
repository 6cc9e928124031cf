"""Tells a person how far a long copy is."""

import sys
import threading
import time
from typing import Self

import click


class Progress:
    """Bytes so far, on standard error and only on a terminal."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0
        self._shown = 0.0
        self._wanted = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._wanted and self._shown:
            click.echo("\r\033[K", nl=False, err=True)

    def __call__(self, size: int) -> None:
        """So many bytes more."""
        with self._lock:
            self._bytes += size
            if self._wanted and time.monotonic() - self._shown > 0.1:
                self._shown = time.monotonic()
                click.echo(f"\r{self._bytes / 1e6:.1f} MB", nl=False, err=True)
