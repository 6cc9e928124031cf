"""Clients known by their certificates: API servers have one more easily than a token that is renewed every hour."""

import ssl
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from shared.clock import Clock
from shared.http.errors import Unauthenticated
from shared.http.gate import Authenticate, Verifier, bearer, credentials
from shared.identity.caller import Caller
from shared.identity.directory import Directory


class ClientCertificates:
    """Finds out who calls: by the bearer token, and where there is none by the common name of the certificate.

    That the certificate holds is for the TLS handshake to see; what it may do is for its member's roles to say.
    """

    def __init__(self, members: Mapping[str, str], verifier: Verifier, directory: Directory, clock: Clock) -> None:
        """`members` gives the member that each common name stands for."""
        self._members = members
        self._bearer: Authenticate = bearer(verifier)
        self._directory = directory
        self._clock = clock

    async def authenticate(self, request: web.Request) -> Caller:
        """The caller; raises Unauthenticated for a certificate that stands for nobody."""
        shown: dict[str, Any] | None = request.get_extra_info("peercert")
        if not shown or credentials(request)[0]:
            return await self._bearer(request)
        expires = ssl.cert_time_to_seconds(shown["notAfter"])
        if expires <= self._clock.now():
            raise Unauthenticated("The client certificate has expired since the connection was made.")
        member = self._members.get(common_name(shown), "")
        account = self._directory.account(member.partition(":")[2]) if member else None
        if account is None or account.disabled:
            raise Unauthenticated("The client certificate stands for no account, or for one that is disabled.")
        return Caller(member, expires=expires)


def common_name(certificate: Mapping[str, Any]) -> str:
    """The subject's common name; empty where there is none or more than one."""
    names = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return str(names[0]) if len(names) == 1 else ""


def members_of(text: str) -> Mapping[str, str]:
    """Members by common name, from `NAME=MEMBER,NAME=MEMBER`; raises ValueError."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, member = part.partition("=")
        kind, _, email = member.partition(":")
        if not (name and equals and kind in {"serviceAccount", "user"} and "@" in email) or name in found:
            raise ValueError(f"not COMMON NAME=serviceAccount:EMAIL, or twice: {part[:80]!r}")
        found[name] = member
    return found
