"""The order of Python's versions (PEP 440)."""

from packaging.version import InvalidVersion, Version

from services.scanner.versions.digits import VersionInvalid, number_key

_PHASES = {"a": b"\x01", "b": b"\x02", "rc": b"\x03"}
_BEFORE_PHASES, _AFTER_PHASES = b"\x00", b"\x04"
_NONE, _SOME = b"\x00", b"\x01"


def pypi_key(version: str) -> bytes:
    """The key of a version. Raises VersionInvalid."""
    if len(version) > 256:
        raise VersionInvalid("a version of more than 256 characters")
    try:
        parsed = Version(version)
    except InvalidVersion as error:
        raise VersionInvalid(f"not a Python version: {version[:80]!r}") from error
    return b"".join(
        (
            _number(parsed.epoch),
            _release(parsed.release),
            _phase(parsed),
            _NONE if parsed.post is None else _SOME + _number(parsed.post),
            _SOME if parsed.dev is None else _NONE + _number(parsed.dev),
            _local(parsed.local),
        )
    )


def _number(number: int) -> bytes:
    return number_key(str(number))


def _release(numbers: tuple[int, ...]) -> bytes:
    """Zeros at the end mean nothing: 1.0 is 1."""
    while numbers and numbers[-1] == 0:
        numbers = numbers[:-1]
    return b"".join(_SOME + _number(number) for number in numbers) + _NONE


def _phase(parsed: Version) -> bytes:
    if parsed.pre is not None:
        return _PHASES[parsed.pre[0]] + _number(parsed.pre[1])
    only_dev = parsed.dev is not None and parsed.post is None
    return _BEFORE_PHASES if only_dev else _AFTER_PHASES


def _local(local: str | None) -> bytes:
    """Words come before numbers, and fewer segments before more."""
    if local is None:
        return _NONE
    segments = (
        b"\x02" + number_key(part) if part.isdigit() else b"\x01" + part.encode() + _NONE for part in local.split(".")
    )
    return _SOME + b"".join(segments) + _NONE
