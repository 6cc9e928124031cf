"""Rules for downloads: made, changed and deleted, each in one atomic step with the news and the audit entry.

They are part of the repository's settings: said with them, kept in snapshots with them, and gone with the repository.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from services.registry.acts import Act, Change, Deed, Steps
from services.registry.download_rules import MOST_BYTES, MOST_RULES, rules_beside
from services.registry.errors import RuleExists, RulesTooMany, RuleUnknown
from services.registry.records import RepositoryRecord, Settings
from services.registry.repositories import Repositories
from services.registry.voice import Voice
from shared.state import FieldIs, PutField

Told = dict[str, object]
"""A rule in Google's words, but for its name."""


@dataclass(frozen=True)
class Rules:
    """The rules of the repositories."""

    repositories: Repositories
    steps: Steps
    voice: Voice

    async def create(self, project: str, repository: str, rule: str, told: Told, act: Act) -> None:
        """Make a rule. Raises NameUnknown, RuleExists, RulesTooMany."""

        def changed(rules: Mapping[str, Told]) -> dict[str, Told]:
            if rule in rules:
                raise RuleExists(f"There is a rule {rule} already.")
            return _with(rules, rule, told)

        await self._change(project, repository, rule, changed, act)

    async def update(self, project: str, repository: str, rule: str, patched: Callable[[Told], Told], act: Act) -> Told:
        """Change a rule; returns it as it is then. Raises NameUnknown, RuleUnknown, RuleExists."""
        after: Told = {}

        def changed(rules: Mapping[str, Told]) -> dict[str, Told]:
            nonlocal after
            after = patched(one(rules, rule))
            return _with(rules, rule, after)

        await self._change(project, repository, rule, changed, act)
        return after

    async def delete(self, project: str, repository: str, rule: str, act: Act) -> None:
        """Take a rule away. Raises NameUnknown, RuleUnknown."""

        def changed(rules: Mapping[str, Told]) -> dict[str, Told]:
            one(rules, rule)
            return {name: told for name, told in rules.items() if name != rule}

        await self._change(project, repository, rule, changed, act)

    async def _change(
        self,
        project: str,
        repository: str,
        rule: str,
        changed: Callable[[Mapping[str, Told]], dict[str, Told]],
        act: Act,
    ) -> None:
        async def decide() -> Change:
            record = await self.repositories.get(project, repository)
            settings = replace(record.settings, download_rules=changed(record.settings.download_rules))
            asked: dict[str, Any] = {"rule": settings.download_rules[rule]} if rule in settings.download_rules else {}
            return self._step(record, settings, act, Deed("", self._name(record, rule), "", asked))

        await self.steps.make(act, decide)

    def _step(self, record: RepositoryRecord, settings: Settings, act: Act, deed: Deed) -> Change:
        place, layout = (record.project, record.repository), self.repositories.store.layout
        key, after = layout.repository(*place), replace(record, settings=settings, text=settings.text)
        return Change(
            *place,
            checks=(FieldIs(key, "settings", record.text), FieldIs(key, "open", record.life)),
            writes=(PutField(key, "settings", after.text), *rules_beside(layout, *place, settings)),
            events=[*self.voice.repository(after, "updated"), *act.witness(deed)],
        )

    def _name(self, record: RepositoryRecord, rule: str) -> str:
        return f"{self.voice.resource(record.project, record.repository)}/rules/{rule}"


def one(rules: Mapping[str, Told], rule: str) -> Told:
    """A rule; raises RuleUnknown."""
    if rule not in rules:
        raise RuleUnknown(f"There is no rule {rule}.")
    return rules[rule]


def _with(rules: Mapping[str, Told], rule: str, told: Told) -> dict[str, Told]:
    """One rule for each package, and one for all. Raises RuleExists, RulesTooMany."""
    package = told.get("packageId", "")
    for name, other in rules.items():
        if name != rule and other.get("packageId", "") == package:
            about = f"the package {package}" if package else "the whole repository"
            raise RuleExists(f"There is a rule for {about} already: {name}.")
    after = {**rules, rule: told}
    if len(after) > MOST_RULES or len(orjson.dumps(after)) > MOST_BYTES:
        raise RulesTooMany(f"A repository has at most {MOST_RULES} rules, of {MOST_BYTES} bytes together.")
    return after
