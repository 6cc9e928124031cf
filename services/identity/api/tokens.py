"""The token endpoint: assertions for access tokens, and the registry's token server with every client's habits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import hdrs, web

from services.identity.addresses import Addresses
from services.identity.api.token_request import ASSERTION, MAX_FORM, TokenRequest, read_form, read_query
from services.identity.assertions import AssertionInvalid, Reader
from services.identity.denials import Denials
from services.identity.grants import granted
from services.identity.guard import Guard
from services.identity.issuing import Holder, Issued, Issuer
from services.identity.logins import LoginRefused, Logins
from services.identity.settings import IdentitySettings
from services.identity.signing import NoSigningKey
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, Unavailable
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.identity.caller import ANONYMOUS
from shared.identity.directory import Directory
from shared.identity.scopes import ScopesTooMany, read_scopes

_NO_STORE: Final[dict[str, str]] = {hdrs.CACHE_CONTROL: "no-store", hdrs.PRAGMA: "no-cache"}


@dataclass(frozen=True)
class TokenFace:
    """`/token`, for key files, docker, podman, skopeo, containerd and the like."""

    logins: Logins
    issuer: Issuer
    directory: Directory
    denials: Denials
    guard: Guard
    settings: IdentitySettings
    location: str
    locations: Mapping[str, str]
    """Of each registry service, as the token request names it, where there are several."""
    addresses: Addresses
    now: Callable[[], float]

    def routes(self) -> list[Route]:
        """The endpoint under its own path and under the one that Google's clients may write."""
        paths = ("/token", "/v1/token", "/oauth2/v4/token")
        return [Route("GET", "/token", self.get, "", audit=Audit.NONE, open_because=_OPEN)] + [
            Route("POST", path, self.post, "", audit=Audit.NONE, open_because=_OPEN, body=MAX_FORM) for path in paths
        ]

    async def get(self, request: web.Request) -> web.Response:
        """A registry token: for the user of the Basic header, or for anybody without one."""
        asked = read_query(request)
        if asked.basic is None:
            return self._registry_token(asked, None, "")
        return await self._by_password(request, asked, *asked.basic)

    async def post(self, request: web.Request) -> web.Response:
        """An access token for an assertion, or a registry token for a password or refresh token."""
        asked = await read_form(request)
        match asked.one("grant_type"):
            case grant if grant == ASSERTION:
                return await self._by_assertion(request, asked)
            case "password":
                return await self._by_password(request, asked, asked.one("username"), asked.one("password"))
            case "refresh_token":
                return await self._by_refresh(request, asked)
            case "" if asked.basic is not None:
                return await self._by_password(request, asked, *asked.basic)
            case _:
                return _oauth_error("unsupported_grant_type", "Known are jwt-bearer, password and refresh_token.")

    async def _by_assertion(self, request: web.Request, asked: TokenRequest) -> web.Response:
        reader = Reader(self.settings.accepted_audiences(self.addresses.tokens(request)), self.now)
        try:
            holder, assertion = await self.logins.by_assertion(asked.one("assertion"), reader)
        except AssertionInvalid as error:
            await self._refused(request, LoginRefused(str(error)))
            return _oauth_error("invalid_grant", str(error))
        except LoginRefused as error:
            await self._refused(request, error)
            return _oauth_error("invalid_grant", _UNPROVEN)
        if assertion.claims.target_audience:
            issued = _signed(lambda: self.issuer.id_token(holder, assertion.claims.target_audience))
            return _answer({"id_token": issued.token})
        issued = _signed(lambda: self.issuer.access(holder))
        return _answer({"access_token": issued.token, "expires_in": issued.seconds, "token_type": "Bearer"})

    async def _by_password(self, request: web.Request, asked: TokenRequest, user: str, password: str) -> web.Response:
        try:
            holder = await self.logins.by_password(user, password)
        except LoginRefused as error:
            return await self._unauthorized(request, error)
        refresh = await self._refresh_token(holder) if asked.offline else ""
        return self._registry_token(asked, holder, refresh)

    async def _by_refresh(self, request: web.Request, asked: TokenRequest) -> web.Response:
        token = asked.one("refresh_token")
        try:
            holder = await self.logins.by_refresh(token)
        except LoginRefused as error:
            return await self._unauthorized(request, error)
        return self._registry_token(asked, holder, token)

    async def _refresh_token(self, holder: Holder) -> str:
        """None for who came with an access token: that must not become something that lives longer."""
        if holder.until != float("inf"):
            return ""
        return await self.logins.refresh_token(holder, self.settings.refresh_days * 86400)

    def _registry_token(self, asked: TokenRequest, holder: Holder | None, refresh: str) -> web.Response:
        try:
            scopes = read_scopes(asked.every("scope"))
        except ScopesTooMany as error:
            raise InvalidArgument(str(error)) from error
        style = asked.one("service") in self.settings.container_registry_services.split()
        caller = holder.caller if holder else ANONYMOUS
        location = self.locations.get(asked.one("service"), self.location)
        access = granted(self.directory, caller, scopes, location, container_registry=style)
        issued = _signed(lambda: self.issuer.registry(holder, access))
        body: dict[str, Any] = {
            "token": issued.token,
            "access_token": issued.token,
            "expires_in": issued.seconds,
            "issued_at": issued.at,
            "token_type": "Bearer",
            "scope": " ".join(f"{grant.kind}:{grant.name}:{','.join(grant.actions)}" for grant in access),
        }
        return _answer(body | ({"refresh_token": refresh} if refresh else {}))

    async def _unauthorized(self, request: web.Request, error: LoginRefused) -> web.Response:
        await self._refused(request, error)
        told = {"code": "UNAUTHORIZED", "message": "The user name or password is wrong, disabled or expired."}
        body = {"errors": [told], "details": told["message"]}
        headers: dict[str, str] = {**_NO_STORE, hdrs.WWW_AUTHENTICATE: 'Basic realm="entrepot"'}
        return json_answer(body, 401, headers)

    async def _refused(self, request: web.Request, error: LoginRefused) -> None:
        call = call_of(request)
        self.denials.note(call, error)
        await self.guard.failed(call.ip)


_OPEN: Final = "this is where callers prove who they are"
_UNPROVEN: Final = "Invalid grant: there is no such account or key, it is disabled, or it did not sign this assertion."
"""One answer for all of these: which of them it was stands in the audit log, and is not for strangers."""


def _signed(make: Callable[[], Issued]) -> Issued:
    try:
        return make()
    except NoSigningKey as error:
        raise Unavailable("There is no key to sign tokens with at the moment.", retry_after=2) from error


def _answer(body: dict[str, Any]) -> web.Response:
    return json_answer(body, headers=_NO_STORE)


def _oauth_error(code: str, description: str) -> web.Response:
    return json_answer({"error": code, "error_description": description}, 400, _NO_STORE)
