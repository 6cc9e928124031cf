"""Name patterns of a policy's allow list: `registry/path`, with a `*` or `**` at the end."""

import re

from services.attestor.references import Reference

_PATTERN = re.compile(r"[^/*\s]+/[^*\s]*\*{0,2}")


def check_pattern(pattern: str) -> str:
    """Return the pattern, or raise ValueError: a wildcard stands only at the end, behind the registry's name."""
    if not _PATTERN.fullmatch(pattern) or pattern.endswith("/"):
        raise ValueError(f"not a name pattern: {pattern!r} (registry/path, a wildcard * or ** only at the end)")
    return pattern


def matches(pattern: str, reference: Reference) -> bool:
    """Whether the pattern names the image, with or without its tag or digest.

    `*` stands for anything but a slash, `**` for anything.
    """
    exact = f"{reference.name}:{reference.tag}" if reference.tag else reference.name
    if reference.digest:  # what runs then; a tag beside it is said by whoever wants to run it, and means nothing
        exact = reference.pinned(reference.digest)
    return any(_fits(pattern, name) for name in (reference.name, exact))


def _fits(pattern: str, name: str) -> bool:
    if pattern.endswith("**"):
        return name.startswith(pattern[:-2])
    if pattern.endswith("*"):
        head = pattern[:-1]
        return name.startswith(head) and "/" not in name[len(head) :]
    return name == pattern
