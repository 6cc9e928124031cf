"""IAM policies in Google's JSON, and as the fact that all services hear.

Everything that could not be kept exactly is refused when the policy is set: unknown roles and members, conditions that
are not understood, fields that nothing here reads.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.cel import ConditionUnknown
from shared.events.states import Binding, Condition, PolicyState
from shared.identity.caller import ALL_AUTHENTICATED, ALL_USERS
from shared.identity.conditions import compiled
from shared.identity.directory import project_in
from shared.identity.members import KIND, Accounts, is_deleted, meant, missing, shown

NO_POLICY_ETAG: Final = "ACAB"
"""The etag of the policy of a resource that has none."""

MAX_MEMBERS: Final = 1500
_DEFAULT_MASK: Final = frozenset({"bindings", "etag"})
_MASKS: Final = _DEFAULT_MASK | {"auditConfigs", "version"}
_DOMAIN: Final = r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}"
_ADDRESS: Final = rf"[^\s@:/]{{1,64}}@{_DOMAIN}"
_MEMBER: Final = re.compile(
    rf"(?:user|serviceAccount|group):{_ADDRESS}|domain:{_DOMAIN}|{ALL_USERS}|{ALL_AUTHENTICATED}"
)
_STRICT: Final = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class PolicyInvalid(ValueError):
    """The policy cannot be set as it is; the message says why and is for the caller."""


class PolicyMoved(Exception):
    """The policy was changed since the caller read it: its etag is another now."""


class _Condition(BaseModel):
    model_config = _STRICT

    expression: str = Field(min_length=1)
    title: str = Field(default="", max_length=100)
    description: str = Field(default="", max_length=256)
    location: str = ""


class _Binding(BaseModel):
    model_config = _STRICT

    role: str
    members: list[str] = []
    condition: _Condition | None = None


class _AuditLog(BaseModel):
    model_config = _STRICT

    log_type: Literal["ADMIN_READ", "DATA_READ", "DATA_WRITE"] = Field(alias="logType")
    exempted_members: list[str] = Field(default=[], alias="exemptedMembers")


class _AuditConfig(BaseModel):
    model_config = _STRICT

    service: str = Field(pattern=r"^(allServices|[a-z0-9.-]+\.googleapis\.com)$")
    logs: list[_AuditLog] = Field(default=[], alias="auditLogConfigs")


class _Policy(BaseModel):
    model_config = _STRICT

    version: Literal[0, 1, 3] = 0
    etag: str = ""
    bindings: list[_Binding] = []
    audit_configs: list[_AuditConfig] = Field(default=[], alias="auditConfigs")
    kind: str = ""
    resource_id: str = Field(default="", alias="resourceId")


class _SetRequest(BaseModel):
    model_config = _STRICT

    policy: _Policy
    update_mask: str = Field(default="", alias="updateMask")


def changed_policy(
    current: PolicyState | None, full_name: str, request: object, knows_role: Callable[[str], bool], accounts: Accounts
) -> PolicyState:
    """The policy after a setIamPolicy request. Raises PolicyInvalid, PolicyMoved."""
    wanted = _read(request)
    before = current or PolicyState(project=project_in(full_name), full_name=full_name)
    if wanted.policy.etag and wanted.policy.etag != (before.etag or NO_POLICY_ETAG):
        raise PolicyMoved(full_name)
    mask = _mask(wanted)
    after = before.model_copy(update={"deleted": False})
    if "bindings" in mask:
        gone = frozenset(_gone_members(before, accounts))
        bindings = _bindings(wanted.policy, knows_role, gone)
        _refuse_strangers(bindings, accounts)
        after = meant(after.model_copy(update={"bindings": bindings}), accounts)
    if "auditConfigs" in mask:
        after = after.model_copy(update={"audit_configs": _audit_configs(wanted.policy)})
    return with_etag(after, before.etag)


def with_etag(policy: PolicyState, before: str) -> PolicyState:
    """The policy with an etag that no earlier state of it had.

    Clients decode and encode it again, some with the alphabet for URLs. Base64 of hexadecimal digits is the same in
    both.
    """
    content = policy.model_copy(update={"etag": before}).model_dump_json().encode()
    return policy.model_copy(
        update={"etag": base64.b64encode(hashlib.sha256(content).hexdigest()[:18].encode()).decode()}
    )


def policy_json(policy: PolicyState | None, accounts: Accounts) -> dict[str, Any]:
    """A policy as getIamPolicy answers it.

    With conditions it is of version 3, whatever was asked for: a client that writes back what it read must not lose
    them.
    """
    if policy is None:
        return {"etag": NO_POLICY_ETAG}
    conditional = any(binding.condition for binding in policy.bindings)
    body: dict[str, Any] = {"version": 3 if conditional else 1, "etag": policy.etag or NO_POLICY_ETAG}
    if policy.bindings:
        body["bindings"] = [_binding_json(binding, policy, accounts) for binding in policy.bindings]
    if policy.audit_configs:
        body["auditConfigs"] = list(policy.audit_configs)
    return body


def known_member(member: str) -> bool:
    """Whether a text names a member as IAM writes it."""
    return bool(_MEMBER.fullmatch(member))


def read_members(members: Iterable[str], gone: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Members, each once, in their order, addresses in lower case. Raises PolicyInvalid.

    `gone` are the deleted accounts that were there before: who writes back what was read may keep them.
    """
    found: dict[str, None] = {}
    for member in members:
        if member in gone:
            found[member] = None
            continue
        if not known_member(member):
            raise PolicyInvalid(f"Invalid member {member[:200]!r}.")
        found[_lower(member)] = None
    return tuple(found)


def _read(request: object) -> _SetRequest:
    try:
        return _SetRequest.model_validate(request)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PolicyInvalid(f"Invalid policy at {place}: {first['msg']}.") from error


def _mask(request: _SetRequest) -> frozenset[str]:
    paths = frozenset(path.strip().removeprefix("policy.") for path in request.update_mask.split(",") if path.strip())
    paths = frozenset("auditConfigs" if path == "audit_configs" else path for path in paths)
    if paths - _MASKS:
        raise PolicyInvalid(f"Unknown field in updateMask: {min(paths - _MASKS)[:100]!r}.")
    return paths or _DEFAULT_MASK


def _gone_members(policy: PolicyState, accounts: Accounts) -> Iterable[str]:
    """The deleted accounts in a policy."""
    told = (shown(member, policy, accounts) for binding in policy.bindings for member in binding.members)
    return filter(is_deleted, told)


def _refuse_strangers(bindings: Iterable[Binding], accounts: Accounts) -> None:
    members = (member for binding in bindings for member in binding.members)
    strangers = missing((member.removeprefix(KIND) for member in members if member.startswith(KIND)), accounts)
    if strangers:
        raise PolicyInvalid(f"Service account {strangers[0][:254]} does not exist.")


def _bindings(policy: _Policy, knows_role: Callable[[str], bool], gone: frozenset[str]) -> tuple[Binding, ...]:
    merged: dict[tuple[str, Condition | None], tuple[str, ...]] = {}
    for binding in policy.bindings:
        if not knows_role(binding.role):
            raise PolicyInvalid(f"Role {binding.role[:200]} is not supported for this resource.")
        name = (binding.role, _condition(policy, binding.condition))
        merged[name] = tuple(dict.fromkeys((*merged.get(name, ()), *read_members(binding.members, gone))))
    if sum(map(len, merged.values())) > MAX_MEMBERS:
        raise PolicyInvalid(f"A policy holds at most {MAX_MEMBERS} members.")
    return tuple(
        Binding(role=role, members=members, condition=condition)
        for (role, condition), members in merged.items()
        if members
    )


def _condition(policy: _Policy, condition: _Condition | None) -> Condition | None:
    if condition is None:
        return None
    if policy.version != 3:
        raise PolicyInvalid("Bindings with conditions need policy version 3.")
    try:
        compiled(condition.expression)
    except ConditionUnknown as error:
        raise PolicyInvalid(f"Condition {condition.title[:100]!r}: {error}.") from error
    return Condition(expression=condition.expression, title=condition.title, description=condition.description)


def _audit_configs(policy: _Policy) -> tuple[dict[str, object], ...]:
    services = [config.service for config in policy.audit_configs]
    if len(set(services)) != len(services):
        raise PolicyInvalid("Each service stands once in auditConfigs.")
    for config in policy.audit_configs:
        for log in config.logs:
            read_members(log.exempted_members)
    return tuple(config.model_dump(by_alias=True, exclude_defaults=True) for config in policy.audit_configs)


def _binding_json(binding: Binding, policy: PolicyState, accounts: Accounts) -> dict[str, Any]:
    members = [shown(member, policy, accounts) for member in binding.members]
    body: dict[str, Any] = {"role": binding.role, "members": members}
    if binding.condition is not None:
        body["condition"] = binding.condition.model_dump(exclude_defaults=True)
    return body


def _lower(member: str) -> str:
    kind, colon, address = member.partition(":")
    return f"{kind}{colon}{address.lower()}"
