"""Durations as policies write them: `30d`, `2592000s`, `2592000.0s`."""

import re

_FORM = re.compile(r"(\d{1,12})(?:\.(\d{1,9}))?([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> float:
    """The duration in seconds; raises ValueError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"not a duration: {text[:40]!r} (as in 30d, 12h or 2592000s)")
    return float(f"{found[1]}.{found[2] or 0}") * _SECONDS[found[3]]
