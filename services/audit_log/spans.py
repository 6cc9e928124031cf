"""Spans: what is known of a segment without reading it."""

from typing import NamedTuple


class Span(NamedTuple):
    """The entries of one segment: which, and from when to when."""

    segment: int
    first: int
    entries: int
    earliest: str
    latest: str
