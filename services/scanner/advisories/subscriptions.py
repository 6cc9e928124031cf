"""Feeds that are fetched by themselves: which, from where, and how the last visit went."""

import re
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict
from yarl import URL

from shared.names import PROJECT

SOURCE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_FIRST_DELAY: Final = 60.0
_MOST_DOUBLINGS: Final = 20


@dataclass(frozen=True)
class Subscription:
    """One source of one project, and the address that it is fetched from."""

    project: str
    source: str
    address: str


class Visit(BaseModel):
    """How the last visit to an address went, and when the next is due."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    address: str
    due: float
    """Unix time."""
    checked: str = ""
    feed: str = ""
    """Id of the content that the address had, or empty where it never had any."""
    etag: str = ""
    modified: str = ""
    failures: int = 0
    """In a row."""
    reason: str = ""
    """Of the last failure."""

    def is_due(self, address: str, now: float, interval: float) -> bool:
        """Whether it is time; also where a clock was set back, so that the next visit seems further off than any is."""
        return self.address != address or now >= self.due or self.due - now > 2 * interval


def subscriptions_of(text: str, sharing: str) -> tuple[Subscription, ...]:
    """What a setting says: `PROJECT/SOURCE=ADDRESS`, divided by blanks. Without a project it is the one that shares.

    Raises ValueError.
    """
    found = tuple(_subscription(entry, sharing) for entry in text.split())
    if len({(one.project, one.source) for one in found}) < len(found):
        raise ValueError("a source of a project has one address")
    return found


def _subscription(entry: str, sharing: str) -> Subscription:
    name, _, address = entry.partition("=")
    project, slash, source = name.rpartition("/")
    project = project if slash else sharing
    if not PROJECT.fullmatch(project) or not SOURCE.fullmatch(source):
        raise ValueError(f"{entry[:80]!r} is not PROJECT/SOURCE=ADDRESS")
    url = URL(address)
    if url.scheme not in {"http", "https"} or not url.host or url.user or url.password:
        raise ValueError(f"the address of {project}/{source} is http or https, and holds no password")
    return Subscription(project, source, address)


def delay(interval: float, failures: int, chance: float) -> float:
    """Seconds until the next visit: growing with failures up to the interval, by `chance` (0 to 1) not all at once."""
    if not failures:
        return interval * (0.9 + 0.2 * chance)
    return min(interval, _FIRST_DELAY * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)) * (0.5 + 0.5 * chance)
