"""Service accounts as members of policies: that there is such an account, and that it is still the one that was meant.

A policy remembers which account each address meant when it was bound. An account that is made later under the same
address is another one, and inherits nothing.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol, cast

from shared.events.states import AccountState, Binding, PolicyState

KIND: Final = "serviceAccount:"
_DELETED: Final = re.compile(r"deleted:serviceAccount:[^\s@:/?]{1,64}@[a-z0-9][a-z0-9.-]{0,252}\?uid=[0-9]{1,40}")


class Accounts(Protocol):
    """Who knows the accounts, such as the directory."""

    def account(self, email: str) -> AccountState | None:
        """An account that exists, also a disabled one."""
        ...

    def last_unique_id(self, email: str) -> str:
        """The unique id of the last account of that address, also a deleted one; empty where none is known."""
        ...

    def ours(self, email: str) -> bool:
        """Whether the address is one that only identity gives out."""
        ...


def is_deleted(member: str) -> bool:
    """Whether this is how a deleted account is written: `deleted:serviceAccount:ci@...?uid=1`."""
    return bool(_DELETED.fullmatch(member))


def addresses_in(body: object) -> frozenset[str]:
    """The service accounts that a setIamPolicy request binds, whatever else may be wrong with it."""
    found: set[str] = set()
    policy = _field(body, "policy")
    for binding in _list(_field(policy, "bindings")):
        members = (member for member in _list(_field(binding, "members")) if isinstance(member, str))
        found |= {member.removeprefix(KIND).lower() for member in members if member.startswith(KIND)}
    return frozenset(found)


def missing(addresses: Iterable[str], accounts: Accounts) -> list[str]:
    """The addresses of ours that are no account's, as far as is known."""
    return sorted(email for email in addresses if accounts.ours(email) and accounts.account(email) is None)


def meant(policy: PolicyState, accounts: Accounts) -> PolicyState:
    """The policy with the unique ids of the accounts that its members are now."""
    members = {member for binding in policy.bindings for member in binding.members if member.startswith(KIND)}
    known = {member: accounts.account(member.removeprefix(KIND)) for member in sorted(members)}
    ids = {member: account.unique_id for member, account in known.items() if account and account.unique_id}
    return policy.model_copy(update={"unique_ids": ids})


def shown(member: str, policy: PolicyState, accounts: Accounts) -> str:
    """A member as getIamPolicy tells it: an account that is gone, as a deleted one."""
    if not member.startswith(KIND):
        return member
    email = member.removeprefix(KIND)
    account = accounts.account(email)
    was = policy.unique_ids.get(member) or accounts.last_unique_id(email)
    if not was or not accounts.ours(email) or (account is not None and account.unique_id == was):
        return member
    return f"deleted:{member}?uid={was}"


def without_namesakes(policy: PolicyState, accounts: Accounts) -> PolicyState:
    """The policy without members whose address is another account's by now."""
    others = {member for member, unique_id in policy.unique_ids.items() if _is_another(member, unique_id, accounts)}
    if not others:
        return policy
    bindings = tuple(_without(binding, others) for binding in policy.bindings)
    return policy.model_copy(update={"bindings": bindings})


def _is_another(member: str, unique_id: str, accounts: Accounts) -> bool:
    account = accounts.account(member.removeprefix(KIND))
    return account is not None and account.unique_id != unique_id


def _without(binding: Binding, others: set[str]) -> Binding:
    return binding.model_copy(update={"members": tuple(one for one in binding.members if one not in others)})


def _field(value: object, name: str) -> object:
    return cast("Mapping[str, Any]", value).get(name) if isinstance(value, Mapping) else None


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
