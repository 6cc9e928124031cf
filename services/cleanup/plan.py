"""The plan: pure, from versions and policies to what would go and why.

KEEP beats DELETE. What an index lists stays with the index, what refers to a subject stays with the subject, and both
go when it goes; a referrer also when its subject is gone already. What runs stays, and what has a tag that a rule of
the repository keeps.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.cleanup.versions import Name, Version
from shared.cleanup_policies import CleanupPolicy, Condition, MostRecent, seconds_of
from shared.tag_rules import TagRules, belongs_to_a_digest

FREE = TagRules()


@dataclass(frozen=True)
class Plan:
    """What would go and why, parents before what belongs to them; and what stays although a policy would delete it."""

    doomed: tuple[tuple[Version, str], ...]
    spared: tuple[tuple[Version, str], ...]
    seen: int

    @property
    def size(self) -> int:
        """Bytes of what would go, at most: layers that others share are counted too."""
        return sum(version.size for version, _ in self.doomed)


def plan(
    versions: Sequence[Version], policies: Mapping[str, CleanupPolicy], now: float, rules: TagRules = FREE
) -> Plan:
    """What the policies say about the versions now."""
    family = _Family(versions)
    kept = _fixed(versions, rules) | _kept(family, policies, now)
    condemned = _condemned(versions, policies, now)
    doomed = {name: reason for name, reason in condemned.items() if name not in kept}
    _cascade(family, doomed, kept)
    rescued = _rescue(family, doomed)
    spared = kept | rescued
    return Plan(
        doomed=tuple((family.by_name[name], doomed[name]) for name in family.parents_first(doomed)),
        spared=tuple((family.by_name[name], spared[name]) for name in condemned if name not in doomed),
        seen=len(versions),
    )


class _Family:
    """Who belongs to whom: an index's children, a subject's referrers."""

    def __init__(self, versions: Sequence[Version]) -> None:
        self.by_name = {version.name: version for version in versions}
        self.belongings: dict[Name, list[Name]] = defaultdict(list)
        self.owners: dict[Name, list[Name]] = defaultdict(list)
        for version in versions:
            for child in version.children:
                self._belongs(Name(version.name.image, child), version.name)
            for subject in version.subjects:
                self._belongs(version.name, Name(version.name.image, subject))

    def _belongs(self, thing: Name, owner: Name) -> None:
        if thing in self.by_name and owner in self.by_name and thing != owner:
            self.belongings[owner].append(thing)
            self.owners[thing].append(owner)

    def parents_first(self, names: Mapping[Name, str]) -> list[Name]:
        """The names with owners before what belongs to them."""
        waits = {name: sum(owner in names for owner in self.owners.get(name, ())) for name in names}
        free = deque(name for name, owners in waits.items() if not owners)
        ordered: dict[Name, None] = {}
        while free:
            name = free.popleft()
            ordered[name] = None
            for thing in self.belongings.get(name, ()):
                if thing in waits:
                    waits[thing] -= 1
                    if not waits[thing]:
                        free.append(thing)
        return [*ordered, *(name for name in names if name not in ordered)]


def _fixed(versions: Sequence[Version], rules: TagRules) -> dict[Name, str]:
    """What has a tag that may not go."""
    if not rules.cleanup:
        return {}
    tags = {version.name: [tag for tag in version.tags if not belongs_to_a_digest(tag)] for version in versions}
    return {name: f"the tag {fixed[0]} is immutable ({rules.cleanup})" for name, fixed in tags.items() if fixed}


def _kept(family: _Family, policies: Mapping[str, CleanupPolicy], now: float) -> dict[Name, str]:
    """What stays by itself: by a KEEP policy, or because it runs."""
    versions = list(family.by_name.values())
    kept = {version.name: f"runs in {version.running}" for version in versions if version.running}
    for policy_id, policy in policies.items():
        if policy.action != "KEEP":
            continue
        for name in _named_by(policy, family, versions, now):
            kept.setdefault(name, f"kept by policy {policy_id}")
    return kept


def _named_by(policy: CleanupPolicy, family: _Family, versions: list[Version], now: float) -> list[Name]:
    if policy.most_recent_versions is not None:
        return _newest(policy.most_recent_versions, family, versions)
    condition = policy.condition or Condition()
    return [version.name for version in versions if meets(version, condition, now)]


def _newest(most: MostRecent, family: _Family, versions: list[Version]) -> list[Name]:
    """The newest of each package. What belongs to another version is not counted: it stays and goes with that one."""
    packages: dict[str, list[Version]] = defaultdict(list)
    for version in versions:
        belongs = version.orphaned or family.owners.get(version.name)
        if not belongs and _begins(version.name.image, most.package_name_prefixes):
            packages[version.name.image].append(version)
    newest = (
        sorted(found, key=lambda version: (-version.uploaded, version.name.digest)) for found in packages.values()
    )
    return [version.name for found in newest for version in found[: most.keep_count]]


def _condemned(versions: Sequence[Version], policies: Mapping[str, CleanupPolicy], now: float) -> dict[Name, str]:
    condemned: dict[Name, str] = {}
    for policy_id, policy in policies.items():
        if policy.action == "DELETE" and policy.condition is not None:
            for version in versions:
                if meets(version, policy.condition, now):
                    condemned.setdefault(version.name, f"policy {policy_id}")
    cleaned = [policy.condition for policy in policies.values() if policy.action == "DELETE" and policy.condition]
    for version in versions:
        if version.orphaned and not version.named and any(_in_package(version, condition) for condition in cleaned):
            condemned.setdefault(version.name, f"belonged to {version.subjects[0][:19]}, which is gone")
    return condemned


def _cascade(family: _Family, doomed: dict[Name, str], kept: Mapping[Name, str]) -> None:
    """What belongs only to what goes, and has no name of its own, goes too."""
    waiting = list(doomed)
    while waiting:
        owner = waiting.pop()
        for name in family.belongings.get(owner, ()):
            free = name not in doomed and name not in kept and not family.by_name[name].named
            if free and all(other in doomed for other in family.owners[name]):
                doomed[name] = f"belongs to {owner.digest[:19]}, which goes"
                waiting.append(name)


def _rescue(family: _Family, doomed: dict[Name, str]) -> dict[Name, str]:
    """What belongs to something that stays, stays; so does what belongs to that."""
    rescued: dict[Name, str] = {}
    waiting = [name for name in family.by_name if name not in doomed]
    while waiting:
        owner = waiting.pop()
        for name in family.belongings.get(owner, ()):
            if doomed.pop(name, None) is not None:
                rescued[name] = f"belongs to {owner.digest[:19]}, which stays"
                waiting.append(name)
    return rescued


def meets(version: Version, condition: Condition, now: float) -> bool:
    """Whether a version is what a condition says."""
    age = now - version.uploaded
    if condition.older_than is not None and age <= seconds_of(condition.older_than):
        return False
    if condition.newer_than is not None and age >= seconds_of(condition.newer_than):
        return False
    if not _in_package(version, condition):
        return False
    return _begins(version.name.digest, condition.version_name_prefixes) and _tagged(version, condition)


def _in_package(version: Version, condition: Condition) -> bool:
    return _begins(version.name.image, condition.package_name_prefixes)


def _tagged(version: Version, condition: Condition) -> bool:
    if condition.tag_state == "UNTAGGED":
        return not version.tags
    if condition.tag_state == "TAGGED" and not version.tags:
        return False
    return not condition.tag_prefixes or any(_begins(tag, condition.tag_prefixes) for tag in version.tags)


def _begins(text: str, prefixes: Sequence[str]) -> bool:
    return not prefixes or text.startswith(tuple(prefixes))
