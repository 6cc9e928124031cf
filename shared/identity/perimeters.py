"""Perimeters: projects that are fenced, and who is let in from where, in the words of Access Context Manager v1.

A call on something in a fenced project, by an API that the perimeter restricts, needs more than a role: one of the
perimeter's access levels must hold for the caller, or one of its ingress policies let the call in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from shared.events.states import PerimeterState

SYSTEM_PROJECT: Final = "entrepot-system"
"""Where the accounts of our own services lie: they are inside of every perimeter."""

ANYWHERE: Final = "*"

_PART: Final = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, alias_generator=to_camel)


class Condition(BaseModel):
    """What must hold of a caller: an address in one of the networks, and one of the members."""

    model_config = _PART

    ip_subnetworks: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    negate: bool = False


class Basic(BaseModel):
    """Conditions, all or any of which must hold."""

    model_config = _PART

    conditions: tuple[Condition, ...] = Field(min_length=1)
    combining_function: Literal["AND", "OR"] = "AND"


class Level(BaseModel):
    """An access level."""

    model_config = _PART

    name: str
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=1000)
    basic: Basic


class MethodSelector(BaseModel):
    """A method by its name, `*` for all, or whatever needs a permission."""

    model_config = _PART

    method: str = ""
    permission: str = ""


class Operation(BaseModel):
    """Methods of one API, or all of all."""

    model_config = _PART

    service_name: str
    method_selectors: tuple[MethodSelector, ...] = ()


class Source(BaseModel):
    """Where a call may come from: wherever an access level holds; `*` is anywhere."""

    model_config = _PART

    access_level: str


class IngressFrom(BaseModel):
    """Whose calls, from where."""

    model_config = _PART

    sources: tuple[Source, ...] = Field(min_length=1)
    identities: tuple[str, ...] = ()
    identity_type: Literal["IDENTITY_TYPE_UNSPECIFIED", "ANY_IDENTITY", "ANY_USER_ACCOUNT", "ANY_SERVICE_ACCOUNT"] = (
        "IDENTITY_TYPE_UNSPECIFIED"
    )


class IngressTo(BaseModel):
    """Which calls, on which projects of the perimeter."""

    model_config = _PART

    resources: tuple[str, ...] = Field(min_length=1)
    operations: tuple[Operation, ...] = Field(min_length=1)


class IngressPolicy(BaseModel):
    """Lets calls in that no access level of the perimeter lets in."""

    model_config = _PART

    title: str = Field(default="", max_length=100)
    ingress_from: IngressFrom
    ingress_to: IngressTo


class Config(BaseModel):
    """What a perimeter fences, and whom it lets in."""

    model_config = _PART

    resources: tuple[str, ...] = ()
    """`projects/NUMBER`."""
    access_levels: tuple[str, ...] = ()
    restricted_services: tuple[str, ...] = ()
    ingress_policies: tuple[IngressPolicy, ...] = ()


class Perimeter(BaseModel):
    """A service perimeter."""

    model_config = _PART

    name: str
    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=1000)
    perimeter_type: Literal["PERIMETER_TYPE_REGULAR"] = "PERIMETER_TYPE_REGULAR"
    status: Config = Config()
    """What is enforced."""
    spec: Config | None = None
    """What is only tried: what it would refuse is noted."""
    use_explicit_dry_run_spec: bool = False


@dataclass(frozen=True)
class Called:
    """From where something is called, and what."""

    ip: str
    api: str
    """Such as `artifactregistry.googleapis.com`."""
    permission: str
    method: str


@dataclass(frozen=True)
class Asker:
    """Who calls what from where."""

    member: str
    principals: Sequence[str]
    """The member itself and its groups."""
    call: Called


@dataclass(frozen=True)
class Caught:
    """A call that a perimeter does not let in."""

    perimeter: str
    organization: str
    project: str
    """`projects/NUMBER`."""
    dry_run: bool


@dataclass(frozen=True)
class _Fence:
    name: str
    config: Config
    dry_run: bool


class Fences:
    """All perimeters, by project."""

    def __init__(self, state: PerimeterState) -> None:
        """What this version cannot read lets nobody in anywhere."""
        self._policy = state.policy
        self._organization = state.parent.partition("/")[2]
        self._levels: dict[str, Level] = {}
        self._by_project: dict[str, list[_Fence]] = {}
        self._shut = not self._reads(state)

    def _reads(self, state: PerimeterState) -> bool:
        try:
            levels = [Level.model_validate(level) for level in state.levels]
            perimeters = [Perimeter.model_validate(perimeter) for perimeter in state.perimeters]
        except ValidationError:
            return False
        self._levels = {level.name: level for level in levels}
        for perimeter in perimeters:
            self._add(_Fence(perimeter.name, perimeter.status, dry_run=False))
            if perimeter.use_explicit_dry_run_spec:
                self._add(_Fence(perimeter.name, perimeter.spec or Config(), dry_run=True))
        return True

    def _add(self, fence: _Fence) -> None:
        for resource in fence.config.resources:
            self._by_project.setdefault(resource, []).append(fence)

    def around(self, project: str) -> bool:
        """Whether a project, `projects/NUMBER`, is fenced, if only to try."""
        return self._shut or project in self._by_project

    def caught(self, project: str, asker: Asker) -> list[Caught]:
        """The perimeters that do not let this call in; those that are only tried come first."""
        if self._shut:
            return [Caught(self._policy, self._organization, project, dry_run=False)]
        fences = (fence for fence in self._by_project.get(project, ()) if not self._lets_in(fence, project, asker))
        found = [Caught(fence.name, self._organization, project, fence.dry_run) for fence in fences]
        return sorted(found, key=lambda caught: not caught.dry_run)

    def _lets_in(self, fence: _Fence, project: str, asker: Asker) -> bool:
        config = fence.config
        if asker.call.api not in config.restricted_services or self._any_holds(config.access_levels, asker):
            return True
        return any(
            _is_to(policy.ingress_to, project, asker) and self._is_from(policy.ingress_from, asker)
            for policy in config.ingress_policies
        )

    def _is_from(self, origin: IngressFrom, asker: Asker) -> bool:
        named = any(principal in origin.identities for principal in asker.principals)
        if not named and not _is_of_type(origin.identity_type, asker.member):
            return False
        return self._any_holds((source.access_level for source in origin.sources), asker)

    def _any_holds(self, names: Iterable[str], asker: Asker) -> bool:
        return any(name == ANYWHERE or self._holds(name, asker) for name in names)

    def _holds(self, name: str, asker: Asker) -> bool:
        level = self._levels.get(name)
        if level is None:
            return False
        combine = all if level.basic.combining_function == "AND" else any
        return combine(_condition_holds(condition, asker) for condition in level.basic.conditions)


def fences_of(state: PerimeterState) -> Fences | None:
    """The perimeters ready for use; None where there are none."""
    return None if state.deleted or not state.perimeters else Fences(state)


def _condition_holds(condition: Condition, asker: Asker) -> bool:
    place = not condition.ip_subnetworks or _in_networks(asker.call.ip, condition.ip_subnetworks)
    member = not condition.members or asker.member in condition.members
    return (place and member) != condition.negate


def _is_of_type(kind: str, member: str) -> bool:
    match kind:
        case "ANY_IDENTITY":
            return True
        case "ANY_USER_ACCOUNT":
            return member.startswith("user:")
        case "ANY_SERVICE_ACCOUNT":
            return member.startswith("serviceAccount:")
        case _:
            return False


def _is_to(target: IngressTo, project: str, asker: Asker) -> bool:
    if ANYWHERE not in target.resources and project not in target.resources:
        return False
    return any(_covers(operation, asker) for operation in target.operations)


def _covers(operation: Operation, asker: Asker) -> bool:
    if operation.service_name == ANYWHERE:
        return True
    if operation.service_name != asker.call.api:
        return False
    return any(
        selector.method in {ANYWHERE, asker.call.method}
        or (selector.permission and selector.permission == asker.call.permission)
        for selector in operation.method_selectors
    )


@lru_cache(maxsize=4096)
def _in_networks(ip: str, networks: tuple[str, ...]) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ip_network(network) for network in networks)
