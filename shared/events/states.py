"""Who exists and what they may do: the facts that identity keeps and all services hear."""

from typing import ClassVar, Final

from pydantic import BaseModel, ConfigDict

from shared.events.event import Fact
from shared.names import subject_token


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class AccountKey(_Part):
    """The public half of a service account's key."""

    public_key: str
    """SubjectPublicKeyInfo, PEM."""
    algorithm: str = "RS256"
    disabled: bool = False
    not_before: str = ""
    not_after: str = ""
    signature: str = ""
    """Root key's signature that the key is this account's; base64. Without it the key signs no bearer tokens."""


class Condition(_Part):
    """A CEL expression that must hold for a binding to count."""

    expression: str
    title: str = ""
    description: str = ""


class Binding(_Part):
    """These members have this role."""

    role: str
    members: tuple[str, ...]
    condition: Condition | None = None


class DenyRule(_Part):
    """These members are denied these permissions, whatever a role says."""

    members: tuple[str, ...]
    permissions: tuple[str, ...]
    except_members: tuple[str, ...] = ()


class ProjectState(Fact):
    """A project, as it is now."""

    topic: ClassVar[str] = "state.project"

    number: int = 0
    name: str = ""
    labels: dict[str, str] = {}
    parent: str = ""
    """`folders/F` or `organizations/O`; empty at the top."""
    created: str = ""
    updated: str = ""
    state: str = "ACTIVE"
    """Or `DELETE_REQUESTED`: it can still be brought back, and nothing in it can be used."""


class AccountState(Fact):
    """A service account or user, with its keys."""

    topic: ClassVar[str] = "state.account"

    email: str
    unique_id: str = ""
    display_name: str = ""
    description: str = ""
    disabled: bool = False
    keys: dict[str, AccountKey] = {}
    """By key id."""

    def resource(self) -> str:
        """One fact per account."""
        return self.email


class GroupState(Fact):
    """A group and its direct members."""

    topic: ClassVar[str] = "state.group"

    email: str
    members: tuple[str, ...] = ()

    def resource(self) -> str:
        """One fact per group."""
        return self.email


class RoleState(Fact):
    """A role and the permissions it holds."""

    topic: ClassVar[str] = "state.role"

    role: str
    """`roles/NAME`, or `projects/P/roles/NAME` for a custom one."""
    title: str = ""
    description: str = ""
    permissions: tuple[str, ...] = ()

    def resource(self) -> str:
        """One fact per role."""
        return self.role


class KeyState(Fact):
    """A public key that tokens are signed with, vouched for by the pinned root key."""

    topic: ClassVar[str] = "state.key"

    key_id: str
    public_key: str
    """SubjectPublicKeyInfo, PEM."""
    not_before: str
    not_after: str
    signature: str
    """Root key's signature over key id, public key and validity; base64."""

    def resource(self) -> str:
        """One fact per key."""
        return self.key_id


class PerimeterState(Fact):
    """All access levels and service perimeters of the organisation, in Access Context Manager's words."""

    topic: ClassVar[str] = "state.perimeter"

    policy: str
    """`accessPolicies/1`."""
    parent: str = ""
    """`organizations/1`."""
    levels: tuple[dict[str, object], ...] = ()
    perimeters: tuple[dict[str, object], ...] = ()

    def resource(self) -> str:
        """One fact for all: a perimeter and the levels that it names change together."""
        return self.policy


class PolicyState(Fact):
    """The IAM policy of one resource, kept by the resource's owner."""

    topic: ClassVar[str] = "state.policy"
    schema_version: ClassVar[int] = 2
    in_own_name: ClassVar[bool] = True

    full_name: str
    """The resource, such as `projects/acme/locations/local/repositories/web`; its kind decides who owns it."""
    etag: str = ""
    bindings: tuple[Binding, ...] = ()
    deny: tuple[DenyRule, ...] = ()
    audit_configs: tuple[dict[str, object], ...] = ()
    unique_ids: dict[str, str] = {}
    """Which account each `serviceAccount:` member meant when it was bound: one made later under its address is
    another."""

    def resource(self) -> str:
        """One fact per resource."""
        return self.full_name

    def subject(self) -> str:
        """The owner is a token of its own: whoever is taken over can announce nothing but its own policies.

        Raises ValueError for a resource of a kind that nobody owns.
        """
        rest = (owner_of(self.full_name), self.project, self.location, self.full_name)
        return ".".join((self.topic, *map(subject_token, rest)))


OWNERS: Final = {
    "organizations/*": "identity",
    "folders/*": "identity",
    "projects/*": "identity",
    "projects/*/serviceAccounts/*": "identity",
    "projects/*/locations/*/repositories/*": "registry",
    "projects/*/attestors/*": "attestor",
    "projects/*/policy": "attestor",
    "projects/*/notes/*": "scanner",
    "projects/*/occurrences/*": "scanner",
}
"""Who keeps, and so announces, the policies of each kind of resource."""


def owner_of(full_name: str) -> str:
    """The service that keeps the policy of a resource. Raises ValueError where nobody does."""
    parts = full_name.split("/")
    kind = "/".join("*" if number % 2 else part for number, part in enumerate(parts))
    if kind not in OWNERS or not all(parts):
        raise ValueError(f"no service keeps policies of {full_name}")
    return OWNERS[kind]
