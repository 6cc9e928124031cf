"""Requests to one registry: finds out how it wants to be asked, and fetches tokens for what is to be done."""

import re
import threading
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode, urljoin

import urllib3

from cli.api import pool
from cli.exits import Failed, NotAllowed
from cli.transport.credentials import Credentials

_PARAMETER = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_TOKEN_SECONDS = 60.0
"""How long a token lives where the registry does not say."""
_LOOPBACK = re.compile(r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?")


class Door:
    """The registry at a host. Safe to use from several threads."""

    def __init__(self, host: str, credentials: Credentials | None, *, plain_http: bool | None = None) -> None:
        """Plain HTTP on loopback, TLS elsewhere, unless said otherwise."""
        plain = bool(_LOOPBACK.fullmatch(host)) if plain_http is None else plain_http
        self.address = f"{'http' if plain else 'https'}://{host}"
        self._credentials = credentials
        self._tokens: dict[str, tuple[str, float]] = {}
        self._challenge: tuple[str, dict[str, str]] | None = None
        self._lock = threading.Lock()

    def knock(self) -> None:
        """Raises NotAllowed where the registry does not take the credentials, Failed where there is none."""
        self.ask("GET", "/v2/", "").drain_conn()

    def ask(
        self,
        verb: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request with what authorises `scope`; a token that is refused is fetched anew once.

        A body that can be sent only once is sent with a token fetched before.
        """
        url = urljoin(f"{self.address}/", path)
        for attempt in (1, 2):
            allowed = {**(headers or {}), **self._authorization(scope, url)}
            try:
                answer = pool.request(verb, url, headers=allowed, **more)
            except urllib3.exceptions.HTTPError as error:
                raise Failed(f"{self.address} does not answer: {error}") from error
            if answer.status != 401 or attempt == 2 or "body" in more:
                return answer
            answer.drain_conn()
            with self._lock:
                self._tokens.pop(scope, None)
        raise AssertionError

    def _authorization(self, scope: str, url: str) -> dict[str, str]:
        """Only for the registry itself: an upload or a blob may lie with somebody else."""
        if not url.startswith(f"{self.address}/"):
            return {}
        with self._lock:
            if self._challenge is None:
                self._challenge = self._asked()
            kind, parameters = self._challenge
            if kind == "bearer":
                token, until = self._tokens.get(scope, ("", 0.0))
                if time.monotonic() >= until:
                    token, until = self._tokens[scope] = self._token(parameters, scope)
                return {"Authorization": f"Bearer {token}"}
            if kind == "basic" and self._credentials:
                return {"Authorization": self._credentials.basic}
            return {}

    def _asked(self) -> tuple[str, dict[str, str]]:
        try:
            answer = pool.request("GET", f"{self.address}/v2/")
        except urllib3.exceptions.HTTPError as error:
            raise Failed(f"{self.address} does not answer: {error}") from error
        if answer.status == 200:
            return "", {}
        if answer.status != 401:
            raise Failed(f"{self.address} is no registry: it answered {answer.status} to /v2/")
        return parse_challenge(answer.headers.get("WWW-Authenticate", ""))

    def _token(self, parameters: dict[str, str], scope: str) -> tuple[str, float]:
        """A token, and until when it may be used: a little less long than it lives."""
        asked = time.monotonic()
        realm = parameters.get("realm", "")
        if self.address.startswith("https:") and not realm.startswith("https:"):
            raise NotAllowed(f"{self.address} sends passwords to {realm!r}, which is not protected by TLS")
        query = {"service": parameters.get("service", ""), "scope": scope.split()}
        answer = self._ask_for_token(realm, query)
        found = cast("dict[str, Any]", answer.json() if answer.status == 200 else {})
        token = found.get("token") or found.get("access_token")
        if not token:
            who = self._credentials.user if self._credentials else "anybody"
            raise NotAllowed(f"{realm} gives no token to {who} ({answer.status})")
        return str(token), asked + 0.8 * float(found.get("expires_in") or _TOKEN_SECONDS)

    def _ask_for_token(self, realm: str, query: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        known = self._credentials
        try:
            if known and known.user == "<token>":
                form = {"grant_type": "refresh_token", "refresh_token": known.password, "client_id": "entrepot"}
                form |= {"service": query["service"], "scope": " ".join(query["scope"])}
                kind = {"Content-Type": "application/x-www-form-urlencoded"}
                return pool.request("POST", realm, body=urlencode(form), headers=kind)
            basic = {"Authorization": known.basic} if known else {}
            separator = "&" if "?" in realm else "?"
            return pool.request("GET", f"{realm}{separator}{urlencode(query, doseq=True)}", headers=basic)
        except urllib3.exceptions.HTTPError as error:
            raise Failed(f"{realm} does not answer: {error}") from error


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """Kind, in small letters, and parameters of a WWW-Authenticate header; Bearer counts before Basic."""
    kind, _, rest = header.strip().partition(" ")
    if kind.lower() not in ("bearer", "basic"):
        return "", {}
    found = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}
    return kind.lower(), {name: re.sub(r"\\(.)", r"\1", value) for name, value in found.items()}
