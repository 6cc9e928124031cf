"""Durations as Google's JSON writes them: `90s`, `1.5s`; and as cloudbuild.yaml allows them besides."""

import re

_FORM = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?s")


def seconds(text: str) -> float:
    """The duration in seconds; raises ValueError for any other form than `N[.N]s`."""
    found = _FORM.fullmatch(text)
    if not found:
        raise ValueError(f"not a duration in seconds such as 600s: {text[:40]!r}")
    return float(f"{found[1]}.{found[2] or 0}")


def duration(value: float) -> str:
    """Seconds as Google's JSON writes them."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
