"""A few advisories for the first voyage: ids, ranges and vectors of well-known findings in old versions, no prose."""

from importlib.resources import files


def seed() -> bytes:
    """The advisories, as an import takes them."""
    return files(__name__).joinpath("advisories.json").read_bytes()
