"""For whoever checks tokens from outside: public keys, what is where, whose token this is; and giving tokens back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import hdrs, web
from joserfc.jwk import ECKey

from services.identity.api.token_request import MAX_FORM, read_form, read_query
from services.identity.logins import Logins
from shared.events.states import KeyState
from shared.http.call import call_of
from shared.http.errors import Unauthenticated
from shared.http.gate import Verifier
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer
from shared.identity.caller import Caller
from shared.identity.directory import Directory

_KEYS_OPEN: Final = "public keys are public"
_ABOUT_OPEN: Final = "it tells about the token that is shown to it, and nothing else"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True)
class DiscoveryFace:
    """Public keys, token information, revocation."""

    directory: Directory
    verifier: Verifier
    logins: Logins
    issuer: str
    base_url: Callable[[web.Request], str]
    now: Callable[[], float]

    def routes(self) -> list[Route]:
        """All open: what they tell is public, or about what was shown."""

        def public(verb: str, path: str, handler: Handler, why: str = _KEYS_OPEN) -> Route:
            return Route(verb, path, handler, "", audit=Audit.NONE, open_because=why, body=MAX_FORM)

        return [
            public("GET", "/.well-known/jwks.json", self.keys),
            public("GET", "/oauth2/v3/certs", self.keys),
            public("GET", "/.well-known/openid-configuration", self.configuration),
            public("GET", "/tokeninfo", self.about, _ABOUT_OPEN),
            public("POST", "/tokeninfo", self.about, _ABOUT_OPEN),
            public("GET", "/oauth2/v3/tokeninfo", self.about, _ABOUT_OPEN),
            public("GET", "/oauth2/v3/userinfo", self.user, _ABOUT_OPEN),
            public("GET", "/v1/userinfo", self.user, _ABOUT_OPEN),
            public("POST", "/revoke", self.revoke, "who has a token may give it back"),
        ]

    async def keys(self, request: web.Request) -> web.Response:
        """The keys that tokens may be signed with, as a JWK set."""
        del request
        keys = [_jwk(fact) for fact in self.directory.every(KeyState)]
        return json_answer({"keys": keys}, headers={hdrs.CACHE_CONTROL: "public, max-age=60"})

    async def configuration(self, request: web.Request) -> web.Response:
        """Where the endpoints are, as OpenID Connect says it."""
        base = self.base_url(request)
        return json_answer(
            {
                "issuer": self.issuer,
                "token_endpoint": f"{base}/token",
                "jwks_uri": f"{base}/.well-known/jwks.json",
                "userinfo_endpoint": f"{base}/oauth2/v3/userinfo",
                "revocation_endpoint": f"{base}/revoke",
                "response_types_supported": ["token", "id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "grant_types_supported": [
                    "urn:ietf:params:oauth:grant-type:jwt-bearer",
                    "password",
                    "refresh_token",
                ],
                "claims_supported": ["aud", "email", "email_verified", "exp", "iat", "iss", "sub"],
            }
        )

    async def about(self, request: web.Request) -> web.Response:
        """Whose access token this is, and how long it lives."""
        asked = read_query(request) if request.method == "GET" else await read_form(request)
        token = asked.one("access_token") or request.query.get("access_token", "")
        try:
            caller = self.verifier.verify(token)
        except (ValueError, Unauthenticated):
            return json_answer({"error": "invalid_token", "error_description": "Invalid Value"}, 400)
        return json_answer(self._told(caller), headers={hdrs.CACHE_CONTROL: "no-store"})

    async def user(self, request: web.Request) -> web.Response:
        """Who calls."""
        caller = call_of(request).caller
        if caller.anonymous:
            raise Unauthenticated("This needs an access token.")
        account = self.directory.account(caller.email)
        return json_answer(
            {"sub": account.unique_id if account else caller.email, "email": caller.email, "email_verified": True}
        )

    async def revoke(self, request: web.Request) -> web.Response:
        """Give back a refresh token. Access tokens end by themselves, or with their account or key."""
        token = (await read_form(request)).one("token") or request.query.get("token", "")
        if await self.logins.revoke_refresh(token):
            return json_answer({})
        told = "Only refresh tokens can be revoked; disable the account or its key to end access tokens."
        return json_answer({"error": "unsupported_token_type", "error_description": told}, 400)

    def _told(self, caller: Caller) -> dict[str, Any]:
        account = self.directory.account(caller.email)
        unique_id = account.unique_id if account else ""
        return {
            "azp": unique_id,
            "aud": unique_id,
            "sub": unique_id,
            "scope": _SCOPE if caller.access is None else "registry",
            "exp": str(int(caller.expires)),
            "expires_in": str(int(caller.expires - self.now())),
            "email": caller.email,
            "email_verified": "true",
            "access_type": "online",
        }


def _jwk(fact: KeyState) -> dict[str, Any]:
    key = ECKey.import_key(fact.public_key)
    return {**key.as_dict(private=False), "kid": fact.key_id, "use": "sig", "alg": "ES256"}
