"""Numbers inside version keys."""

MOST_DIGITS = 255


class VersionInvalid(ValueError):
    """The text is no version of its ecosystem."""


def number_key(digits: str) -> bytes:
    """A number as bytes that order as numbers do: its length first, so that 9 comes before 10."""
    digits = digits.lstrip("0")
    if len(digits) > MOST_DIGITS:
        raise VersionInvalid("a number of the version is too long")
    return bytes([len(digits)]) + digits.encode()
