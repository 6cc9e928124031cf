"""Rules for downloads: which rule of a repository a version falls under, and what it says.

A repository has at most one rule for all its packages and one for each package. The package's rule is asked first;
where there is none, or its condition does not hold, the repository's; where that says nothing either, a download is
allowed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, cast

import orjson

from services.registry.layout import Layout
from services.registry.records import Settings
from shared import cel
from shared.cel import ORDER, ConditionUnknown, Words
from shared.state import Drop, DropField, Put, PutField, Write

ALLOW, DENY = "ALLOW", "DENY"
MOST_RULES: Final = 200
"""Of one repository."""
MOST_BYTES: Final = 24 * 1024
"""Of all of them together: they are said in one event, with the repository's other settings."""
FIELD: Final = "download_rules"
"""Of the repository's record."""

_DIGESTS = ("sha256:", "sha512:")
_KNOWN = "known are pkg.version.id and pkg.package.id"


@dataclass(frozen=True)
class Looked:
    """What a condition may look at: a version by one of its tags, or by none where it has none."""

    package: str
    digest: str
    tag: str = ""


@dataclass(frozen=True)
class Condition:
    """A condition as it was understood."""

    holds: Callable[[Looked], bool]
    about_versions: bool
    """Whether it looks at more than the package."""
    digests: frozenset[str]
    """Digests that it names."""


def condition(expression: str) -> Condition:
    """Read a condition. Raises ConditionUnknown."""
    seen = _Seen()
    holds = cel.compiled(expression, seen.test)
    return Condition(holds, seen.versions, frozenset(seen.digests))


@dataclass
class _Seen:
    """Reads tests, and remembers what they are about."""

    versions: bool = False
    digests: set[str] = field(default_factory=set[str])

    def test(self, words: Words, name: str) -> Callable[[Looked], bool]:
        if name[0] in "\"'":  # a text stands before what it is compared with
            sign, asked = words.sign(*_TURNED), words.next()
            return self._compared(asked, _TURNED[sign], name[1:-1])
        asked, _, verb = name.rpartition(".")
        if verb in _VERBS:
            return self._one(asked, _VERBS[verb], words.argument())
        if words.take("in"):
            equal = [self._compared(name, "==", text) for text in words.texts()]
            return lambda looked: any(test(looked) for test in equal)
        return self._compared(name, words.sign(*ORDER), words.text())

    def _compared(self, asked: str, sign: str, text: str) -> Callable[[Looked], bool]:
        return self._one(asked, ORDER[sign], text, untagged=sign == "!=")

    def _one(
        self, asked: str, compare: Callable[[str, str], bool], text: str, *, untagged: bool = False
    ) -> Callable[[Looked], bool]:
        """What is compared with a digest is the digest, with anything else the tag; `untagged`: true without one."""
        if asked == "pkg.package.id":
            return lambda looked: compare(looked.package, text)
        if asked != "pkg.version.id":
            raise ConditionUnknown(f"not understood: {asked[:80]!r}; {_KNOWN}")
        self.versions = True
        if text.startswith(_DIGESTS):
            self.digests.add(text)
            return lambda looked: compare(looked.digest, text)
        return lambda looked: compare(looked.tag, text) if looked.tag else untagged


_TURNED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_VERBS: Final[dict[str, Callable[[str, str], bool]]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
}


@dataclass(frozen=True)
class Rule:
    """One rule, as downloads see it."""

    id: str
    allows: bool
    condition: Condition | None
    """None: it is about everything in its package or repository."""

    def matches(self, package: str, digest: str, tags: tuple[str, ...]) -> bool:
        """Whether the condition holds for the version under one of its tags."""
        if self.condition is None:
            return True
        return any(self.condition.holds(Looked(package, digest, tag)) for tag in tags or ("",))


@dataclass(frozen=True)
class Ruling:
    """What the rules say of a version."""

    allowed: bool
    rule: str = ""
    """Which rule says so; empty: none does."""
    of_its_own: bool = False
    """Said of this version, not of all that are in its package or repository."""


@dataclass(frozen=True)
class Rulebook:
    """All rules of a repository."""

    rules: Mapping[str, Rule]
    """By package; the one for all packages under the empty name."""

    def ruling(self, package: str, digest: str = "", tags: tuple[str, ...] = ()) -> Ruling:
        """What is said of a version; without a digest, of something that belongs to none."""
        for place in dict.fromkeys((package, "")):
            rule = self.rules.get(place)
            if rule is not None and rule.matches(package, digest, tags):
                own = rule.condition is not None and rule.condition.about_versions
                return Ruling(rule.allows, rule.id, own)
        return Ruling(allowed=True)

    def names(self, digest: str) -> bool:
        """Whether a condition names this digest."""
        return any(rule.condition is not None and digest in rule.condition.digests for rule in self.rules.values())

    def looks_at_versions(self, package: str) -> bool:
        """Whether one has to know more than the package to know what is allowed."""
        rules = (self.rules.get(place) for place in (package, ""))
        return any(rule and rule.condition and rule.condition.about_versions for rule in rules)


FREE: Final = Rulebook({})


@lru_cache(maxsize=256)
def rulebook(text: str | None) -> Rulebook:
    """Read what `written` wrote."""
    found: dict[str, dict[str, Any]] = orjson.loads(text) if text else {}
    return (
        Rulebook({str(told.get("packageId", "")): _rule(rule, told) for rule, told in found.items()}) if found else FREE
    )


def _rule(rule: str, told: Mapping[str, Any]) -> Rule:
    expression = expression_of(told)
    return Rule(rule, told["action"] == ALLOW, condition(expression) if expression else None)


def expression_of(told: Mapping[str, Any]) -> str:
    """The condition of a rule in Google's words; empty where it has none."""
    return str(cast("Mapping[str, Any]", told.get("condition") or {}).get("expression", ""))


def written(settings: Settings) -> str | None:
    """The rules once more by themselves, as every download reads them; None where there are none."""
    rules = settings.download_rules
    return orjson.dumps(rules, option=orjson.OPT_SORT_KEYS).decode() if rules else None


def rules_beside(layout: Layout, project: str, repository: str, settings: Settings) -> list[Write]:
    """The rules beside a repository's settings, and the sign that keeps reads of it from the short way."""
    return beside(layout, project, repository, written(settings))


def beside(layout: Layout, project: str, repository: str, text: str | None) -> list[Write]:
    """The same, for what was `written`."""
    key, sign = layout.repository(project, repository), layout.ruled(project, repository)
    if text is None:
        return [DropField(key, FIELD), Drop(sign)]
    return [PutField(key, FIELD, text), Put(sign, "1")]
