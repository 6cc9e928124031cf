"""Durations as Google's JSON and cloudbuild.yaml write them: `90s`, `1.5s`."""

import re

_FORM = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?s")


def seconds(text: str) -> float:
    """The duration in seconds; raises ValueError for any other form than `N[.N]s`."""
    found = _FORM.fullmatch(text)
    if not found:
        raise ValueError(f"not a duration in seconds such as 600s: {text[:40]!r}")
    return float(f"{found[1]}.{found[2] or 0}")
