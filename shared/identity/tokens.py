"""Access tokens: ES256 JWTs that every service checks by itself, against keys it has heard of and the pinned root.

An account may also sign one itself, with the key of its key file: see `shared.identity.self_signed`.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.events.states import KeyState
from shared.identity import self_signed
from shared.identity.caller import ALL_USERS, Caller, Grant
from shared.identity.directory import Directory
from shared.identity.moments import LEEWAY, moment, usable_key
from shared.identity.root import RootKeys
from shared.identity.self_signed import NotSelfSigned, Proven, SelfSigned, algorithm
from shared.settings import Settings

ALGORITHM: Final = "ES256"
LIFETIME: Final = 3600
"""Seconds that a token may live at most."""

_REMEMBERED: Final = 8192
_LONGEST: Final = 8192
_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class InvalidToken(ValueError):
    """The token does not hold; the reason is for the log and holds nothing of the token."""


class Access(BaseModel):
    """One entry of the `access` claim."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: str
    name: str
    actions: list[str]


class Claims(BaseModel):
    """What an access token says."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    iss: str
    aud: str
    sub: str
    """The member: `serviceAccount:...`, `user:...` or, for anonymous pulls, `allUsers`."""
    uid: str = ""
    """The account's unique id, so that a later account of the same address does not inherit the token."""
    key: str = ""
    """The account's key that the token was given for."""
    iat: int
    nbf: int
    exp: int
    jti: str
    use: Literal["access"]
    access: list[Access] | None = Field(default=None)

    def caller(self) -> Caller:
        """Who calls with this token."""
        return Caller(self.sub, key=self.key, expires=float(self.exp), access=self._grants())

    def _grants(self) -> tuple[Grant, ...] | None:
        if self.access is None:
            return None
        return tuple(Grant(entry.type, entry.name, tuple(entry.actions)) for entry in self.access)


@dataclass(frozen=True)
class Terms:
    """What a token must say to count in this deployment."""

    issuer: str
    audience: str
    addresses: frozenset[str] = frozenset()
    """Where this service can be reached: what a token that an account signed itself may be made out to."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The terms of a process."""
        scheme = "https" if settings.tls_certificate else "http"
        own = settings.public_url or (f"{scheme}://{settings.host}:{settings.port}" if settings.port else "")
        return cls(settings.issuer, settings.audience, frozenset({own.rstrip("/")} - {""}))


@dataclass
class _Checked:
    claims: Claims
    caller: Caller
    key: KeyState | None
    """None: the account signed it itself."""
    until: float
    version: int
    """The directory's version at the last check of key and account."""


class TokenVerifier:
    """Tells whose token it is. What was verified is remembered; that it still counts is asked at every use."""

    def __init__(self, directory: Directory, root: RootKeys, terms: Terms, now: Callable[[], float]) -> None:
        """`now` tells the wall time."""
        self._directory = directory
        self._root = root
        self._terms = terms
        self._now = now
        self._self_signed = SelfSigned(directory, root, terms.addresses, now)
        self._checked: OrderedDict[bytes, _Checked] = OrderedDict()
        self._keys: dict[str, tuple[KeyState, ECKey]] = {}

    def verify(self, token: str) -> Caller:
        """Whose token it is. Raises InvalidToken."""
        name = hashlib.sha256(token.encode(errors="replace")).digest()
        checked = self._checked.get(name)
        if checked is None:
            checked = self._verified(token)
            self._remember(name, checked)
        else:
            self._still(checked)
        return checked.caller

    def _still(self, checked: _Checked) -> None:
        """A remembered token counts until it expires, and while its key and account do."""
        if self._now() >= checked.until:
            raise InvalidToken("expired")
        if checked.version != self._directory.version:
            if checked.key is not None and self._directory.key(checked.key.key_id) != checked.key:
                raise InvalidToken("signed with a key that no longer counts")
            checked.until = self._until(checked.claims, checked.key)
            checked.version = self._directory.version

    def _verified(self, token: str) -> _Checked:
        if len(token) > _LONGEST or not _FORM.fullmatch(token):
            raise InvalidToken("not of a token's form")
        version = self._directory.version
        if algorithm(token) == self_signed.ALGORITHM:
            claims = self._own(token)
            return _Checked(claims, claims.caller(), None, self._until(claims, None), version)
        signed_with: list[KeyState] = []
        claims = self._in_time(self._claims(token, signed_with))
        key = signed_with[0]
        return _Checked(claims, claims.caller(), key, self._until(claims, key), version)

    def _own(self, token: str) -> Claims:
        try:
            return _claims_of(self._self_signed.read(token))
        except NotSelfSigned as error:
            raise InvalidToken(str(error)) from error

    def _claims(self, token: str, signed_with: list[KeyState]) -> Claims:
        def find(guest: GuestProtocol) -> ECKey:
            fact, key = self._key(guest.headers())
            signed_with.append(fact)
            return key

        try:
            claims: dict[str, Any] = jwt.decode(token, find, algorithms=[ALGORITHM]).claims
        except InvalidToken:
            raise
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise InvalidToken("not a token signed by this deployment") from error
        try:
            return Claims.model_validate(claims)
        except ValidationError as error:
            raise InvalidToken("claims are missing or of the wrong form") from error

    def _key(self, header: dict[str, Any]) -> tuple[KeyState, ECKey]:
        key_id = header.get("kid")
        fact = self._directory.key(key_id) if isinstance(key_id, str) else None
        if fact is None:
            raise InvalidToken("signed with an unknown key")
        known = self._keys.get(fact.key_id)
        if known is None or known[0] != fact:
            known = self._keys[fact.key_id] = (fact, self._vouched(fact))
        return known

    def _vouched(self, fact: KeyState) -> ECKey:
        if not self._root.vouch_for(fact):
            raise InvalidToken("signed with a key that the root key does not vouch for")
        try:
            return ECKey.import_key(fact.public_key)
        except (JoseError, ValueError) as error:
            raise InvalidToken("signed with a key that cannot be read") from error

    def _in_time(self, claims: Claims) -> Claims:
        now = self._now()
        if claims.iss != self._terms.issuer:
            raise InvalidToken("of another issuer")
        if claims.aud != self._terms.audience:
            raise InvalidToken("for another audience")
        if now >= claims.exp:
            raise InvalidToken("expired")
        if max(claims.nbf, claims.iat) > now + LEEWAY:
            raise InvalidToken("not valid yet")
        if claims.exp - claims.iat > LIFETIME + LEEWAY:
            raise InvalidToken("longer than a token may live")
        return claims

    def _until(self, claims: Claims, key: KeyState | None) -> float:
        """When the token stops counting at the latest, as things are now. Raises InvalidToken."""
        now, until = self._now(), float(claims.exp)
        if key is not None:
            until = min(until, moment(key.not_after))
            if now < moment(key.not_before) - LEEWAY or now >= until:
                raise InvalidToken("signed with a key outside its time")
        if claims.sub != ALL_USERS:
            until = min(until, self._account_until(claims))
        return until

    def _account_until(self, claims: Claims) -> float:
        account = self._directory.account(claims.sub.partition(":")[2])
        if account is None or account.disabled or account.unique_id != claims.uid:
            raise InvalidToken("of an account that is disabled or gone")
        project = self._directory.project(account.project)
        if project is not None and project.state != "ACTIVE":
            raise InvalidToken("of an account whose project is being deleted")
        if not claims.key:
            return float(claims.exp)
        key = usable_key(account, claims.key, self._now())
        if key is None:
            raise InvalidToken("of an account key that is disabled, expired or gone")
        return moment(key.not_after) if key.not_after else float(claims.exp)

    def _remember(self, name: bytes, checked: _Checked) -> None:
        self._checked[name] = checked
        if len(self._checked) > _REMEMBERED:
            self._checked.popitem(last=False)


def _claims_of(proven: Proven) -> Claims:
    """What a token of ours would say in its place."""
    said, account = proven.said, proven.account
    return Claims(
        iss=said.iss,
        aud=said.aud,
        sub=f"serviceAccount:{account.email}",
        uid=account.unique_id,
        key=proven.key_id,
        iat=int(said.iat),
        nbf=int(said.iat),
        exp=int(said.exp),
        jti="",
        use="access",
    )
