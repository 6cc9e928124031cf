"""JWTs that a service account signed itself: Google's newer clients send them as bearer tokens and fetch none.

They are made out to the service that is called, by its address or by Google's name for its API, or they name the scope
of everything. The account's key counts if the root key vouches for it: whoever writes on the bus can make no account.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey
from pydantic import BaseModel, ConfigDict, ValidationError

from shared.events.states import AccountKey, AccountState
from shared.identity.decoy import decoy
from shared.identity.directory import Directory
from shared.identity.moments import usable_key
from shared.identity.root import RootKeys

ALGORITHM: Final = "RS256"
LIFETIME: Final = 3600
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
"""The only scope that says no less than an account may do: a narrower one could not be kept to."""

APIS: Final = frozenset(
    f"https://{name}.googleapis.com"
    for name in (
        "artifactregistry",
        "binaryauthorization",
        "cloudbuild",
        "cloudresourcemanager",
        "containeranalysis",
        "iam",
        "logging",
        "ondemandscanning",
        "serviceusage",
    )
)
"""How Google's clients call our services, whatever address they are sent to."""

_LEEWAY: Final = 60


class NotSelfSigned(ValueError):
    """The JWT does not hold; the reason is for the log."""


class Said(BaseModel):
    """What such a JWT says."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    iss: str
    sub: str
    aud: str = ""
    scope: str = ""
    iat: float
    exp: float


@dataclass(frozen=True)
class Proven:
    """A JWT that holds."""

    said: Said
    account: AccountState
    key_id: str


@dataclass(frozen=True)
class SelfSigned:
    """Checks such JWTs."""

    directory: Directory
    root: RootKeys
    addresses: frozenset[str]
    """Where this service can be reached, without a slash at the end."""
    now: Callable[[], float]

    def read(self, token: str) -> Proven:
        """Whose it is. Raises NotSelfSigned."""
        head, said = _part(token, 0), self._sound(_said(_part(token, 1)))
        account, key_id = self.directory.account(said.iss), head.get("kid")
        key = self._key(account, key_id) if account and isinstance(key_id, str) else None
        signed = _signed(token, key.public_key if key else decoy())
        if account is None or key is None or not signed:
            raise NotSelfSigned("not signed by a key of the account that may be used")
        return Proven(said, account, str(key_id))

    def _sound(self, said: Said) -> Said:
        """What can be judged without knowing anybody."""
        now = self.now()
        if said.sub != said.iss:
            raise NotSelfSigned("for somebody else than its signer")
        if said.aud:
            if said.aud.rstrip("/") not in self.addresses | APIS:
                raise NotSelfSigned("for another audience")
        elif SCOPE not in said.scope.split():
            raise NotSelfSigned("for no audience and without the scope of everything")
        if now >= said.exp:
            raise NotSelfSigned("expired")
        if said.iat > now + _LEEWAY:
            raise NotSelfSigned("not valid yet")
        if not 0 < said.exp - said.iat <= LIFETIME:
            raise NotSelfSigned("longer than a token may live")
        return said

    def _key(self, account: AccountState, key_id: str) -> AccountKey | None:
        key = usable_key(account, key_id, self.now())
        usable = key is not None and key.algorithm == ALGORITHM and self.root.vouch_for_account(account, key_id)
        return key if usable else None


def algorithm(token: str) -> str:
    """What a token says it is signed with; empty where it says nothing that can be read."""
    try:
        found = _part(token, 0).get("alg")
    except NotSelfSigned:
        return ""
    return found if isinstance(found, str) else ""


def _signed(token: str, public_key: str) -> bool:
    try:
        jwt.decode(token, RSAKey.import_key(public_key), algorithms=[ALGORITHM])
    except (JoseError, ValueError, KeyError, TypeError):
        return False
    return True


def _said(claims: dict[str, Any]) -> Said:
    try:
        return Said.model_validate(claims)
    except ValidationError as error:
        raise NotSelfSigned("claims are missing or of the wrong form") from error


def _part(token: str, number: int) -> dict[str, Any]:
    """A part of a JWT, unproven."""
    try:
        text = token.split(".")[number]
        found: Any = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, IndexError) as error:
        raise NotSelfSigned("not of a token's form") from error
    if not isinstance(found, dict):
        raise NotSelfSigned("not of a token's form")
    return found  # pyright: ignore[reportUnknownVariableType]
