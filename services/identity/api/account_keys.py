"""Keys of service accounts, as iam v1 has them: the private half is answered once and kept nowhere."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.identity.accounts import MAX_KEYS, Account, Key
from services.identity.api.accounts import METHOD, ONE, AccountsFace, Also
from services.identity.key_files import key_file, new_pair, uploaded_public_key
from services.identity.vouching import Vouching
from shared.clock import Clock, Cpu, Ids, rfc3339
from shared.http.bodies import json_body
from shared.http.errors import FailedPrecondition, InvalidArgument, NotFound
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer

KEYS: Final = ONE + "/keys"
KEY: Final = KEYS + "/{key:[^/:]+}"
_FILE: Final = "TYPE_GOOGLE_CREDENTIALS_FILE"


class _Create(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["TYPE_GOOGLE_CREDENTIALS_FILE", "TYPE_UNSPECIFIED"] = Field(default=_FILE, alias="privateKeyType")
    algorithm: Literal["KEY_ALG_RSA_2048", "KEY_ALG_UNSPECIFIED"] = Field(
        default="KEY_ALG_RSA_2048", alias="keyAlgorithm"
    )


class _Upload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    data: str = Field(alias="publicKeyData", max_length=16 * 1024)


@dataclass(frozen=True)
class AccountKeysFace:
    """`projects.serviceAccounts.keys` of iam v1."""

    accounts: AccountsFace
    vouching: Vouching
    clock: Clock
    ids: Ids
    cpu: Cpu
    base_url: Callable[[web.Request], str]

    def routes(self) -> list[Route]:
        """Verbs behind a colon come first."""
        names = self.accounts.names

        def route(verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
            kind = Audit.ADMIN_READ if verb == "GET" else Audit.ADMIN_WRITE
            permission = f"iam.serviceAccountKeys.{permission}"
            return Route(verb, path, handler, permission, names.account_resource, f"{METHOD}.{method}", kind)

        return [
            route("POST", f"{KEY}:disable", self.disable, "disable", "DisableServiceAccountKey"),
            route("POST", f"{KEY}:enable", self.enable, "enable", "EnableServiceAccountKey"),
            route("POST", f"{KEYS}:upload", self.upload, "create", "UploadServiceAccountKey"),
            route("POST", KEYS, self.create, "create", "CreateServiceAccountKey"),
            route("GET", KEYS, self.list, "list", "ListServiceAccountKeys"),
            route("GET", KEY, self.get, "get", "GetServiceAccountKey"),
            route("DELETE", KEY, self.delete, "delete", "DeleteServiceAccountKey"),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """A new key. The answer's `privateKeyData` is the key file, in base64."""
        asked = await json_body(request, _Create)
        pair = await self.cpu(new_pair)
        key = Key(id=self.ids.secret(20).hex(), public_key=pair.public, created=rfc3339(self.clock.now()))
        account = await self._added(request, key, asked.model_dump(by_alias=True))
        file = orjson.dumps(key_file(account, key, pair.private, self.base_url(request)), option=orjson.OPT_INDENT_2)
        body = key.v1(account.full_name) | {"privateKeyType": _FILE, "privateKeyData": base64.b64encode(file).decode()}
        return json_answer(body, headers={"Cache-Control": "no-store"})

    async def upload(self, request: web.Request) -> web.Response:
        """A key whose private half never was here."""
        asked = await json_body(request, _Upload)
        public = uploaded_public_key(asked.data)
        key = Key(id=self.ids.secret(20).hex(), public_key=public, created=rfc3339(self.clock.now()), uploaded=True)
        account = await self._added(request, key, {})
        return json_answer(key.v1(account.full_name))

    async def list(self, request: web.Request) -> web.Response:
        """All keys of the account; all are the users' own."""
        account = await self.accounts.named(request)
        wanted = request.query.getall("keyTypes", [])
        if wanted and not {"USER_MANAGED", "KEY_TYPE_UNSPECIFIED"} & set(wanted):
            return json_answer({})
        keys = [key.v1(account.full_name) for key in account.keys.values()]
        return json_answer({"keys": keys} if keys else {})

    async def get(self, request: web.Request) -> web.Response:
        """One key, with its public half where that is asked for."""
        account = await self.accounts.named(request)
        key = _key(account, request)
        body = key.v1(account.full_name)
        match request.query.get("publicKeyType", "TYPE_NONE"):
            case "TYPE_NONE":
                return json_answer(body)
            case "TYPE_RAW_PUBLIC_KEY":
                return json_answer(body | {"publicKeyData": base64.b64encode(key.public_key.encode()).decode()})
            case _:
                raise InvalidArgument("publicKeyType can be TYPE_NONE or TYPE_RAW_PUBLIC_KEY.")

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a key: what was signed with it is refused as soon as that is heard."""

        def without(account: Account) -> Account:
            key = _key(account, request)
            return account.model_copy(update={"keys": {name: one for name, one in account.keys.items() if one != key}})

        await self._changed(request, without)
        return json_answer({})

    async def disable(self, request: web.Request) -> web.Response:
        """Refuse a key everywhere, as soon as that is heard."""
        await self._changed(request, lambda account: _switched(account, _key(account, request), disabled=True))
        return json_answer({})

    async def enable(self, request: web.Request) -> web.Response:
        """Let a disabled key count again."""
        await self._changed(request, lambda account: _switched(account, _key(account, request), disabled=False))
        return json_answer({})

    async def _added(self, request: web.Request, key: Key, asked: dict[str, Any]) -> Account:
        def with_key(account: Account) -> Account:
            if len(account.keys) >= MAX_KEYS:
                raise FailedPrecondition(f"An account has at most {MAX_KEYS} keys: delete one first.")
            return self.vouching.added(account, key)

        name = f"{self.accounts.names.account_resource(request)}/keys/{key.id}"
        shown = key.v1(self.accounts.names.account_resource(request))
        return await self.accounts.changed(request, with_key, Also(asked, shown, name))

    async def _changed(self, request: web.Request, edit: Callable[[Account], Account]) -> None:
        name = f"{self.accounts.names.account_resource(request)}/keys/{request.match_info['key']}"
        await self.accounts.changed(request, edit, Also(response={}, resource=name))


def _key(account: Account, request: web.Request) -> Key:
    key = account.keys.get(request.match_info["key"])
    if key is None:
        raise NotFound(f"Service account key {request.match_info['key'][:128]} does not exist.")
    return key


def _switched(account: Account, key: Key, *, disabled: bool) -> Account:
    changed = key.model_copy(update={"disabled": disabled})
    return account.model_copy(update={"keys": {**account.keys, key.id: changed}})
