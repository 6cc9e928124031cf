"""Who logs in: by an assertion, by a password that is a key file or a token, or by a refresh token."""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.identity.accounts import Account, Key, is_address, project_of
from services.identity.assertions import Assertion, Reader
from services.identity.issuing import Holder
from services.identity.key_files import KeyFile, KeyFileInvalid
from services.identity.store import Store
from shared.clock import Cpu, Ids
from shared.http.gate import Verifier
from shared.identity.decoy import decoy
from shared.identity.moments import usable_key
from shared.identity.tokens import InvalidToken
from shared.names import PROJECT

TOKEN_USER: Final = "oauth2accesstoken"  # noqa: S105 — a user name
KEY_USER: Final = "_json_key"
KEY_USER_BASE64: Final = "_json_key_base64"

_FOREVER: Final = float("inf")
_PROVEN: Final = 1024
_REFRESH: Final = "er1"


class LoginRefused(Exception):
    """The credentials do not hold; the reason is for the log, `account` is who it was said to be."""

    def __init__(self, reason: str, account: str = "") -> None:
        """Neither may hold anything secret."""
        super().__init__(reason)
        self.account = account


@dataclass(frozen=True)
class _Proof:
    account: str
    key: Key


class Logins:
    """Tells whose credentials these are, as things are now in the store."""

    def __init__(  # noqa: PLR0913 — what a login is decided by
        self, store: Store, verifier: Verifier, *, domain: str, now: Callable[[], float], ids: Ids, cpu: Cpu
    ) -> None:
        """`domain` is what all accounts' addresses end with."""
        self._store = store
        self._verifier = verifier
        self._domain = domain
        self._now = now
        self._ids = ids
        self._cpu = cpu
        self._proven: OrderedDict[bytes, _Proof] = OrderedDict()

    async def by_assertion(self, text: str, reader: Reader) -> tuple[Holder, Assertion]:
        """Raises AssertionInvalid, LoginRefused."""
        email = reader.claimed(text).iss
        account, reason = await self._standing(email)
        assertion = reader.read(text, self._usable_keys(account) if account and not reason else {})
        if account is None or assertion is None:
            raise LoginRefused(reason or "not signed by a key of the account that may be used", _shown(email))
        return self._holder(account, assertion.key_id), assertion

    async def by_password(self, user: str, password: str) -> Holder:
        """Raises LoginRefused."""
        if user == TOKEN_USER:
            return await self._by_token(password)
        if user == KEY_USER:
            return await self._by_key_file(password, "")
        if user == KEY_USER_BASE64:
            return await self._by_key_file(password, "", base64=True)
        if not is_address(user):
            raise LoginRefused("unknown user name")
        if password.lstrip().startswith("{"):
            return await self._by_key_file(password, user)
        return await self._by_token(password, user)

    async def by_refresh(self, token: str) -> Holder:
        """Raises LoginRefused."""
        project = _project_of_refresh(token)
        content = await self._store.refresh(project, _hash(token)) if project else None
        if content is None:
            raise LoginRefused("unknown or expired refresh token")
        stored = json.loads(content)
        account = await self._account(stored["account"])
        if account.unique_id != stored["uid"]:
            raise LoginRefused("refresh token of an earlier account", account.email)
        return self._holder(account, stored["key"])

    async def refresh_token(self, holder: Holder, seconds: int) -> str:
        """A new refresh token, good for as long as account and key are. Only its hash is kept."""
        secret = urlsafe_b64encode(self._ids.secret(32)).decode().rstrip("=")
        account = holder.account
        token = f"{_REFRESH}.{account.project}.{secret}"
        content = json.dumps({"account": account.email, "uid": account.unique_id, "key": holder.key})
        await self._store.keep_refresh(account.project, _hash(token), content, seconds)
        return token

    async def revoke_refresh(self, token: str) -> bool:
        """Forget a refresh token; whether there was one."""
        project = _project_of_refresh(token)
        if not project or await self._store.refresh(project, _hash(token)) is None:
            return False
        await self._store.drop_refresh(project, _hash(token))
        return True

    async def _by_token(self, token: str, user: str = "") -> Holder:
        try:
            caller = self._verifier.verify(token)
        except InvalidToken as error:
            raise LoginRefused(f"access token {error}", user) from error
        if caller.anonymous or caller.access is not None or user not in {"", caller.email}:
            raise LoginRefused("not the access token of that account", user)
        account = await self._account(caller.email)
        return Holder(account, caller.key, caller.expires)

    async def _by_key_file(self, password: str, user: str, *, base64: bool = False) -> Holder:
        name = hashlib.sha256(password.encode(errors="replace")).digest()
        proof = self._proven.get(name) or await self._proof(password, base64=base64)
        if user not in {"", proof.account}:
            raise LoginRefused("key file of another account", user)
        account = await self._account(proof.account)
        if account.keys.get(proof.key.id, proof.key).public_key != proof.key.public_key:
            raise LoginRefused("key file of another key", account.email)
        holder = self._holder(account, proof.key.id)
        self._remember(name, proof)
        return holder

    async def _proof(self, password: str, *, base64: bool) -> _Proof:
        try:
            file = KeyFile.parse_base64(password) if base64 else KeyFile.parse(password)
        except KeyFileInvalid as error:
            raise LoginRefused(f"key file {error}") from error
        account, reason = await self._standing(file.client_email)
        key = account.keys.get(file.private_key_id) if account else None
        opened = await self._cpu(lambda: file.opens(key or Key(id="", public_key=decoy(), created="")))
        if account is None or key is None or reason or not opened:
            raise LoginRefused(reason or "key file does not match the account's key", _shown(file.client_email))
        return _Proof(account.email, key)

    def _remember(self, name: bytes, proof: _Proof) -> None:
        self._proven[name] = proof
        self._proven.move_to_end(name)
        if len(self._proven) > _PROVEN:
            self._proven.popitem(last=False)

    async def _account(self, email: str) -> Account:
        account, reason = await self._standing(email)
        if account is None or reason:
            raise LoginRefused(reason, _shown(email))
        return account

    async def _standing(self, email: str) -> tuple[Account | None, str]:
        """The account of that address, and why nobody can log in as it now.

        Both records are read whatever the first says: how long this takes tells strangers nothing.
        """
        project = project_of(email, self._domain)
        if not project:
            return None, "account is not of this deployment"
        account, _ = await self._store.account(project, email)
        owner, _ = await self._store.project(project)
        if account is None:
            return None, "account does not exist"
        if account.disabled:
            return account, "account is disabled"
        gone = owner is None or owner.state != "ACTIVE"
        return account, "the account's project is gone" if gone else ""

    def _usable_keys(self, account: Account) -> dict[str, Key]:
        return {key.id: key for key in account.keys.values() if self._usable(account, key.id)}

    def _holder(self, account: Account, key_id: str) -> Holder:
        if not self._usable(account, key_id):
            raise LoginRefused("account key is disabled, expired or gone", account.email)
        return Holder(account, key_id, _FOREVER)

    def _usable(self, account: Account, key_id: str) -> bool:
        return usable_key(account.fact(), key_id, self._now()) is not None


def _shown(email: str) -> str:
    """An address for the log, if it is one."""
    return email[:254] if is_address(email) else ""


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _project_of_refresh(token: str) -> str:
    kind, _, rest = token.partition(".")
    project = rest.partition(".")[0]
    return project if kind == _REFRESH and len(token) < 128 and PROJECT.fullmatch(project) else ""
