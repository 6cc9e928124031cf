"""The organisation's access policy: access levels and service perimeters, one record, checked as a whole."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from services.identity.roles import PERMISSIONS
from shared.events.states import PerimeterState
from shared.http.entries import service_name
from shared.http.errors import FailedPrecondition, InvalidArgument
from shared.http.translation import invalid
from shared.identity.perimeters import ANYWHERE, Config, IngressPolicy, Level, Operation, Perimeter
from shared.identity.policies import known_member

MOST: Final = 50
"""Access levels, and as many perimeters."""

APIS: Final = frozenset(service_name("", permission) for permission in PERMISSIONS)
"""What a perimeter can restrict."""

_ID: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,49}")
_PEOPLE: Final = ("user:", "serviceAccount:")


class AccessPolicy(BaseModel):
    """What is kept: things in Google's JSON by their id."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    levels: dict[str, dict[str, Any]] = {}
    perimeters: dict[str, dict[str, Any]] = {}

    def fact(self, name: str, parent: str) -> PerimeterState:
        """The policy as all services hear it."""
        levels, perimeters = tuple(self.levels.values()), tuple(self.perimeters.values())
        return PerimeterState(project="", policy=name, parent=parent, levels=levels, perimeters=perimeters)

    def with_level(self, name: str, body: Mapping[str, Any] | None) -> "AccessPolicy":
        """With an access level as it is to be; None: without it. Raises InvalidArgument, FailedPrecondition."""
        levels = {one: level for one, level in self.levels.items() if one != name or body is not None}
        if body is not None:
            levels[name] = _canonical(_read(Level, body))
        return self.model_copy(update={"levels": levels}).sound()

    def with_perimeter(self, name: str, body: Mapping[str, Any] | None) -> "AccessPolicy":
        """With a perimeter as it is to be; None: without it. Raises InvalidArgument, FailedPrecondition."""
        perimeters = {one: perimeter for one, perimeter in self.perimeters.items() if one != name or body is not None}
        if body is not None:
            perimeters[name] = _canonical(_read(Perimeter, body))
        return self.model_copy(update={"perimeters": perimeters}).sound()

    def sound(self) -> "AccessPolicy":
        """Itself, if levels and perimeters fit together."""
        if len(self.levels) > MOST or len(self.perimeters) > MOST:
            raise FailedPrecondition(f"There are at most {MOST} access levels and {MOST} perimeters.")
        for level in self.levels.values():
            _check_level(Level.model_validate(level))
        levels = frozenset(level["name"] for level in self.levels.values())
        perimeters = [Perimeter.model_validate(perimeter) for perimeter in self.perimeters.values()]
        for perimeter in perimeters:
            _check_perimeter(perimeter, levels)
        _check_apart(perimeter.status.resources for perimeter in perimeters)
        _check_apart(
            perimeter.spec.resources
            for perimeter in perimeters
            if perimeter.spec and perimeter.use_explicit_dry_run_spec
        )
        return self

    def projects(self) -> frozenset[str]:
        """All projects that are named: `projects/NUMBER`."""
        configs = [config for body in self.perimeters.values() for config in _configs(Perimeter.model_validate(body))]
        inside = {resource for config in configs for resource in config.resources}
        targets = {
            one for config in configs for policy in config.ingress_policies for one in policy.ingress_to.resources
        }
        return frozenset(inside | targets - {ANYWHERE})


def checked_id(name: object, parent: str) -> str:
    """The last part of a thing's full name, which the caller chooses; raises InvalidArgument."""
    place, _, found = name.rpartition("/") if isinstance(name, str) else ("", "", "")
    if place != parent or not _ID.fullmatch(found):
        raise InvalidArgument(f"name must be {parent}/ID; an ID begins with a letter and has up to 50 of [A-Za-z0-9_].")
    return found


def _read(model: type[Level] | type[Perimeter], body: Mapping[str, Any]) -> Level | Perimeter:
    """Strictly: what is not understood here is refused, so that nobody takes it for enforced."""
    try:
        return model.model_validate(body, extra="forbid")
    except ValidationError as error:
        raise invalid(error) from error


def _canonical(thing: Level | Perimeter) -> dict[str, Any]:
    return thing.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _configs(perimeter: Perimeter) -> list[Config]:
    return [perimeter.status, *([perimeter.spec] if perimeter.spec else [])]


def _check_level(level: Level) -> None:
    for condition in level.basic.conditions:
        if not condition.ip_subnetworks and not condition.members:
            raise InvalidArgument("A condition names ipSubnetworks or members.")
        for network in condition.ip_subnetworks:
            _check_network(network)
        for member in condition.members:
            if not member.startswith(_PEOPLE) or not known_member(member):
                raise InvalidArgument(f"Invalid member {member[:200]!r}: user: or serviceAccount: and an address.")


def _check_network(text: str) -> None:
    try:
        ip_network(text)
    except ValueError as error:
        raise InvalidArgument(f"Invalid network {text[:100]!r}: an address and its prefix, no host bits.") from error


def _check_perimeter(perimeter: Perimeter, levels: frozenset[str]) -> None:
    if perimeter.spec is not None and not perimeter.use_explicit_dry_run_spec:
        raise InvalidArgument("spec needs useExplicitDryRunSpec.")
    for config in _configs(perimeter):
        _check_levels(config.access_levels, levels)
        unknown = [api for api in config.restricted_services if api not in APIS]
        if unknown:
            raise InvalidArgument(f"{unknown[0][:100]!r} cannot be restricted: there is no such API here.")
        for policy in config.ingress_policies:
            _check_ingress(policy, config, levels)


def _check_ingress(policy: IngressPolicy, config: Config, levels: frozenset[str]) -> None:
    origin, target = policy.ingress_from, policy.ingress_to
    _check_levels((source.access_level for source in origin.sources if source.access_level != ANYWHERE), levels)
    if bool(origin.identities) == (origin.identity_type != "IDENTITY_TYPE_UNSPECIFIED"):
        raise InvalidArgument("ingressFrom names identities or an identityType, and not both.")
    for identity in origin.identities:
        if not identity.startswith((*_PEOPLE, "group:")) or not known_member(identity):
            raise InvalidArgument(f"Invalid identity {identity[:200]!r}.")
    if set(target.resources) - {ANYWHERE, *config.resources}:
        raise InvalidArgument("ingressTo names projects of the perimeter, or '*'.")
    for operation in target.operations:
        _check_operation(operation)


def _check_operation(operation: Operation) -> None:
    if operation.service_name != ANYWHERE and operation.service_name not in APIS:
        raise InvalidArgument(f"There is no API {operation.service_name[:100]!r} here.")
    if (operation.service_name == ANYWHERE) == bool(operation.method_selectors):
        raise InvalidArgument("An operation names methods of one API, or all APIs by '*' and no methods.")
    if any(bool(selector.method) == bool(selector.permission) for selector in operation.method_selectors):
        raise InvalidArgument("A methodSelector names a method or a permission.")


def _check_levels(names: Iterable[str], levels: frozenset[str]) -> None:
    for name in names:
        if name not in levels:
            raise FailedPrecondition(f"There is no access level {name[:200]}, and a perimeter names it.")


def _check_apart(resources: Iterable[Iterable[str]]) -> None:
    seen: set[str] = set()
    for project in (project for inside in resources for project in inside):
        if project in seen:
            raise InvalidArgument(f"{project[:40]} is in a perimeter already: a project is in one, once.")
        seen.add(project)
