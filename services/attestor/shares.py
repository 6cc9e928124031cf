"""How much of what one project attested about one digest is kept, so that nobody's pile makes a decision slow."""

from collections.abc import Mapping

from services.attestor.facts import Evidence

MOST = 1024
MOST_BYTES = 4 * 1024 * 1024
"""Twice what the scanner's face takes: what it deleted may be heard of later than what it then took instead."""
MOST_WITHDRAWN = 1024
"""Tombstones; of the oldest ones no late event is expected any more."""


def fits(kept: Mapping[str, str], field: str, new: Evidence) -> bool:
    """Whether there is room beside what the same project attested; `kept` is the evidence as stored, by field."""
    if new.withdrawn:
        return True
    others = [raw for name, raw in kept.items() if name != field and not _read(raw).withdrawn]
    return len(others) < MOST and sum(map(len, others)) + len(new.stored()) <= MOST_BYTES


def outlived(kept: Mapping[str, str]) -> list[str]:
    """The oldest tombstones that have to go for one more."""
    withdrawn = {name: found for name, raw in kept.items() if (found := _read(raw)).withdrawn}
    oldest_first = sorted(withdrawn, key=lambda name: withdrawn[name].generation)
    return oldest_first[: max(0, len(oldest_first) + 1 - MOST_WITHDRAWN)]


def _read(raw: str) -> Evidence:
    return Evidence.model_validate_json(raw)
