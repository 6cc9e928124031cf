"""Who exists and what they may do, as this replica has heard it: every decision is made here, in memory.

Google's model is additive with inheritance, so a decision is a set membership test along the resource's ancestors;
deny rules are asked first. What has been worked out is kept until the next fact that could change it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, TypeVar

from shared.bus.face import Bus, Heard, View
from shared.events import Event, Fact
from shared.events.states import (
    AccountState,
    GroupState,
    KeyState,
    PerimeterState,
    PolicyState,
    ProjectState,
    RoleState,
)
from shared.identity.caller import ALL_AUTHENTICATED, ALL_USERS, Caller
from shared.identity.members import without_namesakes
from shared.identity.perimeters import SYSTEM_PROJECT, Asker, Called, Caught, Fences, fences_of
from shared.identity.rules import Rules
from shared.identity.scopes import covers

FACTS: Final[tuple[type[Fact], ...]] = (
    ProjectState,
    AccountState,
    GroupState,
    RoleState,
    KeyState,
    PolicyState,
    PerimeterState,
)
"""What a directory hears."""

STALE_SECONDS: Final = 600.0
_REMEMBERED: Final = 20_000
_ON_PROJECTS: Final = "resourcemanager.projects."
_READS: Final = ("get", "list", "download", "read", "search", "access", "query", "verify", "view", "check")

F = TypeVar("F", bound=Fact)


class Now(Protocol):
    """Wall time as a Unix timestamp, such as `clock.now`."""

    def __call__(self) -> float:
        """The time."""
        ...


class Decision(NamedTuple):
    """Whether somebody may do something, and why. A tuple, as one is made for every call."""

    allowed: bool
    permission: str
    resource: str
    reason: str
    """For people and the audit log: `granted`, `denied by rule`, `no grant`, `stale`, ..."""
    at: str = ""
    """The resource whose policy decided; empty when none did."""
    principal: str = ""
    """The member of that policy that stands for the caller: the account itself, a group, `allUsers`."""

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True)
class _Known:
    fact: Fact
    generation: int


@dataclass
class _WorkedOut:
    """What was derived from the facts, until they change."""

    rules: dict[str, Rules] = field(default_factory=dict[str, Rules])
    chains: dict[str, tuple[Rules, ...]] = field(default_factory=dict[str, tuple[Rules, ...]])
    principals: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


class Directory:
    """The facts of identity and the policies of all resources, indexed for decisions."""

    def __init__(self, now: Now, age: Callable[[], float] | None = None) -> None:
        """`age` tells how many seconds old this view is; until `follow` is called, or without it, it is always new."""
        self._now = now
        self._age = age or (lambda: 0.0)
        self._known: dict[tuple[type[Fact], str], _Known] = {}
        self._groups_of: dict[str, set[str]] = {}
        self._worked_out = _WorkedOut()
        self._closed: set[str] = set()
        self._domains: set[str] = set()
        self._fences: Fences | None = None
        self.version = 0
        """Counts up with every fact that changed something; whoever remembers decisions compares it."""

    # Hearing.

    def follow(self, bus: Bus) -> View:
        """Hear all facts from `bus` from now on, and be as old as that view is. Said before the bus starts."""
        view = bus.view(FACTS, self.heard)
        self._age = view.age
        return view

    def heard(self, heard: Heard[Event]) -> None:
        """Take over a fact, unless a later word on the same thing is known already."""
        if isinstance(heard.event, Fact):
            self.learn(heard.event, heard.generation)

    def learn(self, fact: Fact, generation: int = 0) -> None:
        """Take over a fact that this replica made itself, so that its maker sees it at once."""
        name = (type(fact), fact.resource() or fact.project)
        known = self._known.get(name)
        if known is not None and (generation < known.generation or fact == known.fact):
            return
        if isinstance(fact, GroupState):
            self._regroup(known.fact if known else None, fact)
        elif isinstance(fact, AccountState):
            self._settle(known.fact if known else None, fact)
        self._known[name] = _Known(fact, generation)
        self.version += 1
        self._forget(fact)

    def facts(self) -> Iterator[tuple[Fact, int]]:
        """Everything known with its generation, tombstones too: what a snapshot holds, for `learn`."""
        return ((known.fact, known.generation) for known in self._known.values())

    @property
    def stale(self) -> bool:
        """Whether this view is too old to allow changes by it."""
        return self.behind(STALE_SECONDS)

    def behind(self, seconds: float) -> bool:
        """Whether this view was last known to be complete longer ago than that."""
        return self._age() > seconds

    # Looking up.

    def project(self, project: str) -> ProjectState | None:
        """A project that exists, also one that is being deleted."""
        return self._of(ProjectState, project)

    def account(self, email: str) -> AccountState | None:
        """An account that exists, also a disabled one."""
        return self._of(AccountState, email)

    def last_unique_id(self, email: str) -> str:
        """The unique id of the last account of that address, also a deleted one; empty where none is known."""
        known = self._known.get((AccountState, email))
        return known.fact.unique_id if known and isinstance(known.fact, AccountState) else ""

    def ours(self, email: str) -> bool:
        """Whether the address has the form of those that identity gives out."""
        return email.partition("@")[2].partition(".")[2] in self._domains

    def group(self, email: str) -> GroupState | None:
        """A group that exists."""
        return self._of(GroupState, email)

    def role(self, name: str) -> RoleState | None:
        """A role that exists, by its full name."""
        return self._of(RoleState, name)

    def key(self, key_id: str) -> KeyState | None:
        """A public key of tokens that counts; whether the root key vouches for it is the verifier's to check."""
        return self._of(KeyState, key_id)

    def policy(self, full_name: str) -> PolicyState | None:
        """The policy set on exactly this resource."""
        return self._of(PolicyState, full_name)

    def every(self, kind: type[F]) -> Iterator[F]:
        """All living facts of a kind, such as every ProjectState."""
        return (known.fact for known in self._known.values() if isinstance(known.fact, kind) and not known.fact.deleted)

    # Deciding.

    def allowed(self, caller: Caller, permission: str, resource: str) -> bool:
        """Whether the caller may; what `decide` says, without the reason, at a third of the cost."""
        if caller.access is not None or self._closed or self._age() > STALE_SECONDS:
            return self.decide(caller, permission, resource).allowed
        principals = self._principals(caller.member)
        chain = self._worked_out.chains.get(resource) or self._chain(resource)
        for rules in chain:
            if rules.conditional or rules.denials:
                return self._walked(principals, permission, resource).allowed
        for rules in chain:
            grants = rules.grants
            for principal in principals:
                if principal in grants and permission in grants[principal]:
                    return True
        return False

    def decide(self, caller: Caller, permission: str, resource: str) -> Decision:
        """Whether the caller may use `permission` on `resource`, and which policy says so."""
        if caller.access is not None and not covers(caller.access, permission, resource):
            return Decision(allowed=False, permission=permission, resource=resource, reason="outside the token's scope")
        if not reads(permission) and self._age() > STALE_SECONDS:
            return Decision(allowed=False, permission=permission, resource=resource, reason="stale")
        if self._closed and project_in(resource) in self._closed and not permission.startswith(_ON_PROJECTS):
            return Decision(allowed=False, permission=permission, resource=resource, reason="project is being deleted")
        return self._walked(self._principals(caller.member), permission, resource)

    def _walked(self, principals: tuple[str, ...], permission: str, resource: str) -> Decision:
        chain = self._chain(resource)
        for rules in chain:
            if rules.denials and (principal := rules.denies(principals, permission)):
                return Decision(False, permission, resource, "denied by rule", rules.name, principal)  # noqa: FBT003 — the hot path
        for rules in chain:
            grants = rules.grants
            for principal in principals:
                if principal in grants and permission in grants[principal]:
                    return Decision(True, permission, resource, "granted", rules.name, principal)  # noqa: FBT003 — the hot path
            if rules.conditional and (principal := rules.grants_now(principals, permission, resource, self._now())):
                return Decision(True, permission, resource, "granted on condition", rules.name, principal)  # noqa: FBT003 — the hot path
        return Decision(allowed=False, permission=permission, resource=resource, reason="no grant")

    def audits(self, service: str, log_type: str, resource: str, member: str) -> bool:
        """Whether calls of this type (`DATA_READ`, ...) at `artifactregistry.googleapis.com` or so are to be logged.

        The audit configs of the resource and all its ancestors count together, and so do their exemptions.
        """
        chain = self._chain(resource)
        if not any([rules.audit_configs for rules in chain]):  # noqa: C419 - asked for each read; a list is faster
            return False
        return any(rules.audits(service, log_type) for rules in chain) and not any(
            rules.exempts(service, log_type, member) for rules in chain
        )

    def fenced(self, resource: str) -> bool:
        """Whether the resource lies in a project with a perimeter around it, if only to try."""
        return self._fences is not None and self._fences.around(self._numbered(resource))

    def caught(self, caller: Caller, resource: str, call: Called) -> list[Caught]:
        """The perimeters that do not let in this call, which the policies allow; usually, at once, none."""
        if self._fences is None:
            return []
        project = self._numbered(resource)
        if not project or self._inside(caller):
            return []
        return self._fences.caught(project, Asker(caller.member, self._principals(caller.member), call))

    def _numbered(self, resource: str) -> str:
        """The resource's project as perimeters write it; empty for what lies in none."""
        name = project_in(resource)
        project = self.project(name) if name else None
        return f"projects/{project.number if project else name}" if name else ""

    def _inside(self, caller: Caller) -> bool:
        """Whether one of our own services calls."""
        kind, _, email = caller.member.partition(":")
        place = email.partition("@")[2]
        return kind == "serviceAccount" and place.startswith(f"{SYSTEM_PROJECT}.") and self.ours(email)

    def groups_of(self, member: str) -> frozenset[str]:
        """All groups a member is in, also through other groups; as members, `group:...`."""
        found: set[str] = set()
        waiting = [member]
        while waiting:
            new = self._groups_of.get(waiting.pop(), set()) - found
            found |= new
            waiting += new
        return frozenset(found)

    # What is worked out.

    def _of(self, kind: type[F], name: str) -> F | None:
        known = self._known.get((kind, name))
        if known is None or known.fact.deleted or not isinstance(known.fact, kind):
            return None
        return known.fact

    def _principals(self, member: str) -> tuple[str, ...]:
        found = self._worked_out.principals.get(member)
        if found is None:
            found = self._principals_anew(member)
            if len(self._worked_out.principals) >= _REMEMBERED:
                self._worked_out.principals.clear()
            self._worked_out.principals[member] = found
        return found

    def _principals_anew(self, member: str) -> tuple[str, ...]:
        if member == ALL_USERS:
            return (ALL_USERS,)
        kind, _, email = member.partition(":")
        if kind == "serviceAccount" and self._switched_off(email):
            return ()  # not even what is everybody's: the account shall not act at all
        domain = f"domain:{email.rpartition('@')[2]}"
        return (member, *sorted(self.groups_of(member)), domain, ALL_AUTHENTICATED, ALL_USERS)

    def _switched_off(self, email: str) -> bool:
        known = self._known.get((AccountState, email))
        account = known.fact if known else None
        return isinstance(account, AccountState) and (account.deleted or account.disabled)

    def _chain(self, resource: str) -> tuple[Rules, ...]:
        found = self._worked_out.chains.get(resource)
        if found is None:
            found = tuple(rules for name in self.lineage(resource) if (rules := self._rules(name)))
            if len(self._worked_out.chains) >= _REMEMBERED:
                self._worked_out.chains.clear()
            self._worked_out.chains[resource] = found
        return found

    def lineage(self, resource: str) -> list[str]:
        """The resource and its ancestors, nearest first: repository, project, the project's parent."""
        parts = resource.split("/")
        names = ["/".join(parts[:length]) for length in range(len(parts), 1, -1)]
        project = self.project(project_in(resource))
        if project is not None and project.parent:
            names.append(project.parent)
        return names

    def _rules(self, name: str) -> Rules | None:
        found = self._worked_out.rules.get(name)
        if found is None:
            policy = self.policy(name)
            if policy is None:
                return None
            found = self._worked_out.rules[name] = Rules.of(without_namesakes(policy, self), self._permissions)
        return found

    def _permissions(self, role: str) -> frozenset[str]:
        known = self.role(role)
        return frozenset(known.permissions) if known else frozenset()

    def _regroup(self, before: Fact | None, after: GroupState) -> None:
        group = f"group:{after.email}"
        for member in before.members if isinstance(before, GroupState) else ():
            self._groups_of.get(member, set()).discard(group)
        for member in () if after.deleted else after.members:
            self._groups_of.setdefault(member, set()).add(group)

    def _settle(self, before: Fact | None, after: AccountState) -> None:
        """Learn what accounts' addresses end with; another account of an address is not what policies meant by it."""
        place = after.email.partition("@")[2]
        if place.startswith(f"{after.project}."):
            self._domains.add(place.removeprefix(f"{after.project}."))
        if not isinstance(before, AccountState) or before.unique_id != after.unique_id:
            self._worked_out.rules.clear()
            self._worked_out.chains.clear()

    def _forget(self, fact: Fact) -> None:
        worked_out = self._worked_out
        match fact:
            case AccountState() | GroupState():
                worked_out.principals.clear()
            case PerimeterState():
                self._fences = fences_of(fact)
            case RoleState():
                worked_out.rules.clear()
                worked_out.chains.clear()
            case PolicyState():
                worked_out.rules.pop(fact.full_name, None)
                worked_out.chains.clear()
            case ProjectState():
                worked_out.chains.clear()
                change = self._closed.add if fact.state != "ACTIVE" else self._closed.discard
                change(fact.project)
            case _:
                pass


@lru_cache(maxsize=1024)
def reads(permission: str) -> bool:
    """Whether a permission only reads, by its verb."""
    return permission.rpartition(".")[2].startswith(_READS)


def project_in(full_name: str) -> str:
    """The project of a resource's full name; empty for what lies above projects."""
    parts = full_name.split("/")
    return parts[1] if len(parts) > 1 and parts[0] == "projects" else ""
