"""Tokens as they are given out: access tokens for every service, narrow ones for the registry, id tokens for others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.identity.accounts import Account
from services.identity.signing import SigningKeys
from shared.clock import Ids, rfc3339
from shared.identity.caller import ALL_USERS, Caller, Grant
from shared.identity.tokens import Terms


@dataclass(frozen=True)
class Holder:
    """Somebody who has proven to be this account."""

    account: Account
    key: str
    """Id of the key that proved it."""
    until: float
    """When the proof ends; infinite where it does not."""

    @property
    def caller(self) -> Caller:
        """The holder as decisions know it."""
        return Caller(self.account.member, key=self.key)


@dataclass(frozen=True)
class Issued:
    """A token, and how long it lives."""

    token: str
    seconds: int
    at: str


@dataclass(frozen=True)
class Issuer:
    """Makes tokens."""

    signing: SigningKeys
    terms: Terms
    now: Callable[[], float]
    ids: Ids
    seconds: int

    def access(self, holder: Holder, seconds: int | None = None) -> Issued:
        """An access token that is good for whatever the account may do. Raises NoSigningKey."""
        return self._issued(holder, {"aud": self.terms.audience, "use": "access"}, seconds)

    def registry(self, holder: Holder | None, access: Sequence[Grant]) -> Issued:
        """A token that reaches no further than `access`; without a holder for anonymous calls. Raises NoSigningKey."""
        entries = [{"type": grant.kind, "name": grant.name, "actions": list(grant.actions)} for grant in access]
        return self._issued(holder, {"aud": self.terms.audience, "use": "access", "access": entries}, None)

    def id_token(self, holder: Holder, audience: str) -> Issued:
        """A token that tells somebody outside who this is; no service here takes it. Raises NoSigningKey."""
        email = holder.account.email
        told = {"aud": audience, "use": "id", "email": email, "email_verified": True, "azp": holder.account.unique_id}
        return self._issued(holder, told, None)

    def _issued(self, holder: Holder | None, said: dict[str, Any], seconds: int | None) -> Issued:
        now = int(self.now())
        until = min(now + min(seconds or self.seconds, self.seconds), holder.until if holder else float("inf"))
        claims = {
            "iss": self.terms.issuer,
            **_subject(holder),
            **said,
            "iat": now,
            "nbf": now,
            "exp": int(until),
            "jti": self.ids.new(),
        }
        return Issued(self.signing.sign(claims), int(until) - now, rfc3339(now))


def _subject(holder: Holder | None) -> dict[str, Any]:
    if holder is None:
        return {"sub": ALL_USERS}
    return {"sub": holder.account.member, "uid": holder.account.unique_id, "key": holder.key}
