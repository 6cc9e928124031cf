"""RFC 7523: a service account proves itself by a JWT that it signed with its own key."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol, RSAKey
from pydantic import BaseModel, ConfigDict, ValidationError

from services.identity.accounts import Key
from shared.identity.decoy import decoy

MAX_ASSERTION: Final = 16 * 1024
_LEEWAY: Final = 60
_LONGEST: Final = 3600
_FORMS: Final = {"RS256": RSAKey, "ES256": ECKey}


class AssertionInvalid(ValueError):
    """The assertion could count for nobody; the reason is for the caller, who knows what it holds."""


class Claimed(BaseModel):
    """What an assertion says; it is believed after its signature was checked."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    iss: str
    sub: str = ""
    aud: str | list[str]
    iat: float
    exp: float
    nbf: float = 0.0
    scope: str = ""
    target_audience: str = ""


@dataclass(frozen=True)
class Assertion:
    """An assertion, checked."""

    claims: Claimed
    key_id: str


@dataclass(frozen=True)
class Reader:
    """Checks assertions."""

    audiences: frozenset[str]
    now: Callable[[], float]

    def claimed(self, assertion: str) -> Claimed:
        """What an assertion says, unproven, if it could count at all. Raises AssertionInvalid.

        This comes before anything is looked up, so that what is complained of says nothing about who there is.
        """
        return self._sound(_claims(_parts(assertion)[1]))

    def read(self, assertion: str, keys: Mapping[str, Key]) -> Assertion | None:
        """Check an assertion with the keys that its account may use now; None where none of them signed it.

        Without a fitting key a stranger's is tried: the time that this takes must not tell whether there is one.
        """
        key = _key(_parts(assertion)[0], keys)
        claims = _verified(assertion, key or Key(id="", public_key=decoy(), created=""))
        return Assertion(self._sound(claims), key.id) if key and claims else None

    def _sound(self, claims: Claimed) -> Claimed:
        self._in_time(claims)
        self._for_us(claims)
        return claims

    def _in_time(self, claims: Claimed) -> None:
        now = self.now()
        if now > claims.exp + _LEEWAY or now < max(claims.iat, claims.nbf) - _LEEWAY:
            raise AssertionInvalid("The JWT must be a short-lived token of now: check its iat, nbf and exp.")
        if not 0 < claims.exp - claims.iat <= _LONGEST + _LEEWAY:
            raise AssertionInvalid("The JWT must live for at most 60 minutes: check its iat and exp.")

    def _for_us(self, claims: Claimed) -> None:
        audiences = {claims.aud} if isinstance(claims.aud, str) else set(claims.aud)
        if not audiences & self.audiences:
            raise AssertionInvalid("Invalid JWT: the audience is not this token endpoint.")
        if claims.sub not in {"", claims.iss}:
            raise AssertionInvalid("A service account cannot act for somebody else here: leave out sub.")


def _parts(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unproven."""
    if len(assertion) > MAX_ASSERTION:
        raise AssertionInvalid("The assertion is too long.")
    try:
        header, claims, _ = assertion.split(".")
        return _decoded(header), _decoded(claims)
    except (ValueError, RecursionError) as error:
        raise AssertionInvalid("Invalid JWT: the assertion is not one.") from error


def _decoded(part: str) -> dict[str, Any]:
    found: object = json.loads(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004 — it is the content that is wrong
    return cast("dict[str, Any]", found)


def _key(header: Mapping[str, Any], keys: Mapping[str, Key]) -> Key | None:
    key_id = header.get("kid")
    if key_id is None and len(keys) == 1:
        return next(iter(keys.values()))
    return keys.get(key_id) if isinstance(key_id, str) else None


def _verified(assertion: str, key: Key) -> Claimed | None:
    def find(_: GuestProtocol) -> RSAKey | ECKey:
        return _FORMS[key.algorithm].import_key(key.public_key)

    try:
        return _claims(jwt.decode(assertion, find, algorithms=[key.algorithm]).claims)
    except (JoseError, ValueError, KeyError, TypeError):
        return None


def _claims(claims: dict[str, Any]) -> Claimed:
    try:
        return Claimed.model_validate(claims)
    except ValidationError as error:
        raise AssertionInvalid("Invalid JWT: it needs iss, aud, iat and exp.") from error
