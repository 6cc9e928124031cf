"""Rules for tags: which of them may not be overwritten or deleted, as a repository's settings say.

The registry keeps to them, cleanup plans by them: both read them here, so that both mean the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

IMMUTABLE = "dockerConfig.immutableTags"
OVERWRITE = "entrepot-tag-overwrite"
DELETION = "entrepot-tag-deletion"
ALLOWED, REFUSED, CLEANUP = "allowed", "refused", "cleanup"

_RESERVED = "entrepot-tag-"
_VALUES = {OVERWRITE: (ALLOWED, REFUSED), DELETION: (ALLOWED, CLEANUP, REFUSED)}
_ENCODED = 64
_REFERRERS = re.compile(rf"sha(?:256|512)-[0-9a-f]{{{_ENCODED}}}(\.[A-Za-z0-9_.-]+)?")


def belongs_to_a_digest(tag: str) -> bool:
    """Whether a tag is one that clients make for a digest, `sha256-HEX` or `sha256-HEX.sig`, and must be able to move.

    They write what refers to a digest under it, and write it anew each time there is more.
    """
    return _REFERRERS.fullmatch(tag) is not None


def referrers_tag(digest: str) -> str:
    """The tag under which clients that do not know better keep the list of what refers to a digest."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm}-{encoded[:_ENCODED]}"


def digest_of(tag: str) -> str:
    """The digest that a tag of that form is for; empty for another tag, and where the tag tells only half of it."""
    return f"sha256:{tag[7 : 7 + _ENCODED]}" if tag.startswith("sha256-") and belongs_to_a_digest(tag) else ""


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise ValueError for a label that looks like a rule and is none: a slip must not leave tags unprotected."""
    for name, value in labels.items():
        if not name.startswith(_RESERVED):
            continue
        if name not in _VALUES:
            raise ValueError(f"labels that begin with {_RESERVED} are rules for tags: {', '.join(_VALUES)}")
        if value not in _VALUES[name]:
            raise ValueError(f"the label {name} is one of {', '.join(_VALUES[name])}")


@dataclass(frozen=True)
class TagRules:
    """For each thing that may be done to a tag the rule that refuses it; empty where it is allowed."""

    overwrite: str = ""
    """A tag that exists does not come to point at something else."""
    deletion: str = ""
    """It is not deleted because somebody wants it to be."""
    cleanup: str = ""
    """It is not deleted by a cleanup policy."""

    @classmethod
    def of(cls, labels: Mapping[str, str], *, immutable: bool) -> Self:
        """The rules that a repository's settings make; a label says more than `immutable` does."""
        rule = IMMUTABLE if immutable else ""
        overwrite, deletion = labels.get(OVERWRITE), labels.get(DELETION)
        return cls(
            rule if overwrite is None else _rule(OVERWRITE, overwrite, (ALLOWED,)),
            rule if deletion is None else _rule(DELETION, deletion, (ALLOWED,)),
            rule if deletion is None else _rule(DELETION, deletion, (ALLOWED, CLEANUP)),
        )

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read what `text` wrote."""
        return cls() if text is None else cls(*text.split("|"))

    @property
    def text(self) -> str | None:
        """One line; None where everything is allowed."""
        rules = (self.overwrite, self.deletion, self.cleanup)
        return "|".join(rules) if any(rules) else None


def _rule(label: str, value: str, allowing: tuple[str, ...]) -> str:
    return "" if value in allowing else f"label {label}={value}"
