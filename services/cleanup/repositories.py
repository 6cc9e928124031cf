"""Repositories and their cleanup policies, as their owner says they are."""

from collections.abc import Iterator, Mapping

import structlog
from pydantic import ValidationError

from services.cleanup.store import Place
from shared.bus import Heard
from shared.cleanup_policies import CleanupPolicy, fingerprint, read_policies
from shared.events import Event
from shared.events.images import RepositoryState
from shared.tag_rules import TagRules

_LOG = structlog.get_logger("repositories")


class Repositories:
    """A view: every replica hears all of it."""

    def __init__(self) -> None:
        self._known: dict[Place, RepositoryState] = {}
        self._generations: dict[Place, int] = {}

    def heard(self, heard: Heard[Event]) -> None:
        """Take the last word on a repository."""
        fact = heard.event
        if isinstance(fact, RepositoryState):
            place = Place(fact.project, fact.location, fact.repository)
            self._known[place], self._generations[place] = fact, heard.generation

    def get(self, place: Place) -> RepositoryState | None:
        """A repository that exists."""
        found = self._known.get(place)
        return None if found is None or found.deleted else found

    def tag_rules(self, place: Place) -> TagRules:
        """Which of its tags may not go."""
        found = self.get(place)
        return TagRules() if found is None else TagRules.of(found.labels, immutable=found.immutable_tags)

    def with_policies(self) -> Iterator[tuple[Place, RepositoryState]]:
        """Repositories that have policies."""
        for place, fact in list(self._known.items()):
            if fact.cleanup_policies and not fact.deleted:
                yield place, fact

    def generation(self, place: Place) -> int:
        """Of the last word on a repository; 0 where nothing was heard of it."""
        return self._generations.get(place, 0)

    def projects(self) -> list[str]:
        """Projects that have or had repositories."""
        return sorted({place.project for place in self._known})


def fingerprint_of(fact: RepositoryState) -> str:
    """By which the owner of a repository knows whether its policies are still those."""
    return fingerprint(fact.cleanup_policies, dry_run=fact.cleanup_policy_dry_run)


def policies_of(fact: RepositoryState) -> Mapping[str, CleanupPolicy]:
    """The policies of a repository.

    When one cannot be read none counts: a KEEP that is not understood must not be lost.
    """
    try:
        return read_policies(fact.cleanup_policies)
    except ValidationError as error:
        _LOG.warning("cleanup policies cannot be read", repository=fact.repository, errors=error.error_count())
        return {}
