"""Calls to the services' JSON faces, with a token, and errors turned into sentences and exit codes."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlencode

import urllib3

from cli import keyfile
from cli.exits import Failed, Missing, NotAllowed
from shared.identity.key_file import GRANT, KeyFile

_TIMEOUT = urllib3.Timeout(connect=5, read=60)
_RETRY = urllib3.Retry(
    connect=2,
    read=0,
    status=4,
    backoff_factor=0.3,
    status_forcelist=(429, 503),
    allowed_methods=None,
    raise_on_status=False,
)
"""Only answers that say nothing was done are asked again."""

pool = urllib3.PoolManager(maxsize=64, timeout=_TIMEOUT, retries=_RETRY)


class Api:
    """One service's face, as one account sees it."""

    def __init__(self, address: str, token: str = "") -> None:
        """Without a token, as anybody."""
        self.address = address
        self.token = token

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """Read."""
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        """Create, or do."""
        return self.call("POST", path, {} if body is None else body, query)

    def delete(self, path: str, **query: Any) -> dict[str, Any]:
        """Delete."""
        return self.call("DELETE", path, query=query)

    def pages(self, path: str, items: str, limit: int = 0, **query: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page after page; at most `limit` where it is not 0."""
        token, given = "", 0
        while True:
            page = self.get(path, **query, **({"pageToken": token} if token else {}))
            for item in page.get(items, []):
                yield item
                given += 1
                if given == limit:
                    return
            token = str(page.get("nextPageToken", ""))
            if not token:
                return

    def call(self, verb: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Any call; raises NotAllowed, Missing or Failed with what the service said."""
        named = urlencode({name: value for name, value in (query or {}).items() if value not in ("", None)})
        url = f"{self.address}/{path.lstrip('/')}" + (f"?{named}" if named else "")
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = pool.request(
                verb, url, body=None if body is None else json.dumps(body), headers=headers, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise Failed(f"{self.address} does not answer: {_reason(error)}") from error
        return understood(answer.status, answer.data)


def access_token(key: KeyFile, address: str = "") -> str:
    """Exchange a signed assertion for a token, where the key file says or at that identity service."""
    form = urlencode({"grant_type": GRANT, "assertion": keyfile.assertion(key)})
    url = f"{address}/token" if address else key.token_uri
    try:
        answer = pool.request(
            "POST", url, body=form, headers={"Content-Type": "application/x-www-form-urlencoded"}, redirect=False
        )
    except urllib3.exceptions.HTTPError as error:
        raise Failed(f"{url} does not answer: {_reason(error)}") from error
    found = _json(answer.data)
    if answer.status >= 500:
        raise Failed(f"{url} answered {answer.status}: {found.get('error', '')}")
    if answer.status != 200 or "access_token" not in found:
        raise NotAllowed(
            f"no token for {key.email}: {found.get('error_description') or found.get('error') or answer.status}"
        )
    return str(found["access_token"])


def understood(status: int, content: bytes) -> dict[str, Any]:
    """What a service answered; raises NotAllowed, Missing or Failed with its words."""
    found = _json(content)
    if status < 300:
        return found
    said = found.get("error", {})
    sentence = str(cast("dict[str, Any]", said).get("message", "")) if isinstance(said, dict) else str(said)
    sentence = sentence or f"the service answered {status}"
    kinds: dict[int, type[Failed]] = {401: NotAllowed, 403: NotAllowed, 404: Missing}
    raise kinds.get(status, Failed)(sentence)


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", None) or error
    return str(inner).rpartition(": ")[2] or type(inner).__name__
