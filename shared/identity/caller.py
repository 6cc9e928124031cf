"""Who calls: what a verified token says."""

from dataclasses import dataclass
from typing import Final

ALL_USERS: Final = "allUsers"
ALL_AUTHENTICATED: Final = "allAuthenticatedUsers"


@dataclass(frozen=True)
class Grant:
    """One entry of a registry token's `access` claim: these actions on that repository name."""

    kind: str
    name: str
    actions: tuple[str, ...]


@dataclass(frozen=True)
class Caller:
    """A caller, checked. Anonymous callers are the member `allUsers`."""

    member: str
    """As IAM writes it: `serviceAccount:ci@demo.iam.entrepot`, `user:ada@example.org` or `allUsers`."""
    key: str = ""
    """Id of the account's key behind the token, where there is one."""
    expires: float = 0.0
    """Unix timestamp; 0 for anonymous callers."""
    access: tuple[Grant, ...] | None = None
    """What a registry token is limited to; None: not limited."""

    @property
    def anonymous(self) -> bool:
        """Whether nobody in particular calls."""
        return self.member == ALL_USERS

    @property
    def email(self) -> str:
        """The member without its kind; empty for anonymous callers."""
        return self.member.partition(":")[2]


ANONYMOUS: Final = Caller(ALL_USERS)
