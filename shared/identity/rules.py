"""One resource's policy as sets: who is granted what, on which condition, who is denied what, what is audited."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from shared.cel import ConditionUnknown
from shared.events.states import Binding, DenyRule, PolicyState
from shared.identity.conditions import Asked, Test, compiled

_NOTHING: frozenset[str] = frozenset()
_PART = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class AuditLog(BaseModel):
    """One type of calls to be logged, but for the exempted members' calls."""

    model_config = _PART

    log_type: str = Field(default="", alias="logType")
    exempted_members: tuple[str, ...] = Field(default=(), alias="exemptedMembers")


class AuditConfig(BaseModel):
    """What is logged of one service's calls, or of `allServices`."""

    model_config = _PART

    service: str = ""
    logs: tuple[AuditLog, ...] = Field(default=(), alias="auditLogConfigs")


@dataclass(frozen=True)
class Conditional:
    """Permissions that count only while a condition holds."""

    members: frozenset[str]
    permissions: frozenset[str]
    test: Test


@dataclass(frozen=True)
class Denial:
    """Permissions that are denied to members, whatever a role says."""

    members: frozenset[str]
    permissions: frozenset[str]
    families: tuple[str, ...]
    """Beginnings such as `artifactregistry.tags.`, written with a star at the end."""
    except_members: frozenset[str]

    @classmethod
    def of(cls, rule: DenyRule) -> Self:
        """The rule of a policy, ready for use."""
        families = tuple(name.removesuffix("*") for name in rule.permissions if name.endswith("*"))
        return cls(frozenset(rule.members), frozenset(rule.permissions), families, frozenset(rule.except_members))

    def hits(self, principals: tuple[str, ...], permission: str) -> str:
        """The principal that is denied; empty when none is."""
        if permission not in self.permissions and not (self.families and permission.startswith(self.families)):
            return ""
        if any(principal in self.except_members for principal in principals):
            return ""
        return next((principal for principal in principals if principal in self.members), "")


@dataclass
class Rules:
    """The policy of one resource, compiled for decisions."""

    name: str
    grants: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    """Permissions by member, all unconditional bindings together."""
    conditional: list[Conditional] = field(default_factory=list[Conditional])
    denials: tuple[Denial, ...] = ()
    audit_configs: tuple[AuditConfig, ...] = ()

    @classmethod
    def of(cls, policy: PolicyState, permissions: Callable[[str], frozenset[str]]) -> Self:
        """Compile a policy; `permissions` tells what a role holds."""
        rules = cls(policy.full_name)
        rules.audit_configs = tuple(AuditConfig.model_validate(config) for config in policy.audit_configs)
        rules.denials = tuple(Denial.of(rule) for rule in policy.deny)
        for binding in policy.bindings:
            rules.add(binding, permissions(binding.role))
        return rules

    def add(self, binding: Binding, permissions: frozenset[str]) -> None:
        """Add one binding. A condition that is not understood never grants anything."""
        if binding.condition is None:
            for member in binding.members:
                self.grants[member] = self.grants.get(member, _NOTHING) | permissions
            return
        try:
            test = compiled(binding.condition.expression)
        except ConditionUnknown:
            return
        self.conditional.append(Conditional(frozenset(binding.members), permissions, test))

    def denies(self, principals: tuple[str, ...], permission: str) -> str:
        """The principal that some rule denies the permission; empty when none does."""
        return next((found for denial in self.denials if (found := denial.hits(principals, permission))), "")

    def grants_now(self, principals: tuple[str, ...], permission: str, resource: str, time: float) -> str:
        """The principal that a conditional binding grants the permission now; empty when none does."""
        asked = Asked(time, resource)
        for binding in self.conditional:
            if permission in binding.permissions and binding.test(asked):
                for principal in principals:
                    if principal in binding.members:
                        return principal
        return ""

    def audits(self, service: str, log_type: str) -> bool:
        """Whether the audit configs name this type for this service or for all."""
        return any(True for _ in self._logs(service, log_type))

    def exempts(self, service: str, log_type: str, member: str) -> bool:
        """Whether the member is exempted from that."""
        return any(member in log.exempted_members for log in self._logs(service, log_type))

    def _logs(self, service: str, log_type: str) -> Iterator[AuditLog]:
        for config in self.audit_configs:
            if config.service in {service, "allServices"}:
                yield from (log for log in config.logs if log.log_type == log_type)
