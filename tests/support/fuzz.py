"""Malformed requests, drawn by a seed: the same seed always draws the same ones."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from shared.http.routes import Route

_PLACE: Final = re.compile(r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})*)?\}")
_SAMPLES: Final = {
    "project": ["demo", "demo", "other", "-", "_", "DEMO", "a" * 300],
    "location": ["local", "global", "-"],
    "name": ["demo/web/app", "demo/app", "demo/web/" + "a/" * 60 + "b", "web"],
    "reference": ["v1", "sha256:" + "0" * 64, "sha512:" + "a" * 128, "sha256:zz", "v" * 500],
    "digest": ["sha256:" + "0" * 64, "sha512:0", "md5:" + "0" * 32, "latest"],
    "repository": ["web", "gcr.io", "a" * 70],
    "account": ["nobody@demo.iam.entrepot", "@", "a@b@c", "1" * 21, "-"],
    "organization": ["1", "2", "-1"],
    "policy": ["1", "x"],
    "point": ["cloudresourcemanager.googleapis.com%252Fprojects%252Fdemo", "%2f"],
}
_ODD: Final = (
    *(
        "",
        "%",
        "%%",
        "%00",
        "%2e%2e%2f",
        "..",
        "%c3%28",
        "%ff%fe",
        "*",
        "~",
        "%0d%0aX:%20y",
        "\\",
        "'",
        '"',
        "<x>",
        "{}",
    ),
    *("%F0%9F%90%8B", "null", "0", "-1", "1e309", "a" * 1000, "%25" * 200, "$(id)", "%s%n", "[]", ";", ":", "::", "/"),
)
_QUERIES: Final = (
    *(
        "pageSize",
        "pageToken",
        "filter",
        "orderBy",
        "updateMask",
        "n",
        "last",
        "mount",
        "from",
        "digest",
        "_state",
        "view",
    ),
    *(
        "project",
        "policyId",
        "repositoryId",
        "artifactType",
        "digest-algorithm",
        "tag",
        "timeout",
        "cluster",
        "alt",
        "fields",
    ),
    *("grant_type", "assertion", "scope", "service", "token", "access_token", "service_account", "showDeleted"),
)
_HEADERS: Final = (
    *(
        "Authorization",
        "Content-Type",
        "Content-Range",
        "Range",
        "If-Match",
        "If-None-Match",
        "Accept",
        "Expect",
        "Origin",
    ),
    *(
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "traceparent",
        "tracestate",
        "X-Request-Id",
        "Cookie",
    ),
    *(
        "Content-Encoding",
        "Content-MD5",
        "X-Goog-User-Project",
        "X-HTTP-Method-Override",
        "Upgrade",
        "Connection",
        "TE",
    ),
)
_NUMBERS: Final = (0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 1e308, 0.1, True, None)
_NAMES: Final = (
    *(
        "name",
        "policy",
        "bindings",
        "role",
        "members",
        "etag",
        "accountId",
        "projectId",
        "permissions",
        "resource",
        "kind",
    ),
    *("steps", "source", "images", "timeout", "options", "request", "object", "spec", "containers", "image", "labels"),
    *("resourceNames", "filter", "pageSize", "pageToken", "description", "attestationAuthority", "noteName", "format"),
    *("cleanupPolicies", "dockerConfig", "userOwnedGrafeasNote", "publicKeys", "defaultAdmissionRule", "destination"),
    *("occurrence", "noteReference", "$ref", "__proto__", "@type", "type", "status", "title", "includedPermissions"),
)
_BODIES: Final = (
    *(b"[" * 5000, b'{"a":' * 3000, b"{}{}", b"\xff\xfe{}", b"nul", b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b"1" * 400),
    *(b"grant_type=x&assertion=" + b"e" * 2000, b"grant_type=password&username=a&password=%ff", b'{"name": 1e999}'),
    *(b"--x\r\n\r\n--x--", b"5\r\nhello\r\n0\r\n\r\n"),
)
_LINES: Final = ("\r\n", "\n", "\r", "\r\n ", "\r\n\t", "\x00\r\n", "\r\n\r\n")


@dataclass(frozen=True)
class Fuzzer:
    """Draws requests to the routes of a face, and to what lies beside them."""

    drawn: random.Random
    routes: Sequence[Route]
    authorization: str
    """Of somebody who may do everything; used in two of three requests, so that handlers are reached."""

    def request(self) -> bytes:
        """One request, more or less."""
        drawn = self.drawn
        body = self._body()
        lines = [self._line(), b"Host: fuzz.example"]
        if drawn.random() < 0.67:
            lines.append(b"Authorization: " + self.authorization.encode())
        lines += [self._header() for _ in range(drawn.choice((0, 0, 1, 2, 3, 150 if drawn.random() < 0.02 else 1)))]
        lines += self._framing(body)
        if drawn.random() < 0.9:
            lines.append(b"Connection: close")
        made = b"\r\n".join(lines) + b"\r\n\r\n" + body
        return self._broken(made) if drawn.random() < 0.25 else made

    def _line(self) -> bytes:
        drawn = self.drawn
        route = drawn.choice(self.routes)
        verb = "GET" if route.verb == "*" else route.verb
        if drawn.random() < 0.15:
            verb = drawn.choice(
                ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "X", "PRI")
            )
        if verb == "DELETE" and route.path.count("/") <= 3:
            verb = "GET"  # neither projects nor what is above them: the requests after it should find them there
        path = _PLACE.sub(lambda found: self._value(found[1]), route.path)
        if drawn.random() < 0.15:
            at = drawn.randrange(len(path))
            path = path[:at] + drawn.choice(_ODD) + path[at:]
        if drawn.random() < 0.5:
            path += "?" + "&".join(f"{drawn.choice(_QUERIES)}={self._value('')}" for _ in range(drawn.randrange(1, 4)))
        version = drawn.choice(("1.1",) * 20 + ("1.0", "0.9", "2.0", "1.", "9.9"))
        return f"{verb} {path} HTTP/{version}".encode()

    def _value(self, name: str) -> str:
        if name in _SAMPLES and self.drawn.random() < 0.8:
            return self.drawn.choice(_SAMPLES[name][:2] if self.drawn.random() < 0.7 else _SAMPLES[name])
        return self.drawn.choice(_ODD) if self.drawn.random() < 0.6 else "sample"

    def _header(self) -> bytes:
        drawn = self.drawn
        odd = drawn.choice(
            (*_ODD, "a, b", "bytes=0-", "bytes 0-1/2", "gzip", "application/json", "100-continue", "upgrade", '"x"')
        )
        value = odd.encode() if drawn.random() < 0.8 else drawn.randbytes(drawn.randrange(1, 30))
        return drawn.choice(_HEADERS).encode() + b": " + value

    def _framing(self, body: bytes) -> list[bytes]:
        length = b"Content-Length: %d"
        return self.drawn.choice((
            *([length % len(body)],) * 12,
            [],
            [length % (len(body) + 3)],
            [length % max(len(body) - 3, 0)],
            [b"Transfer-Encoding: chunked"],
            [length % len(body), b"Transfer-Encoding: chunked"],
            [length % len(body)] * 2,
            [b"Content-Length: -1"],
            [b"Content-Length: 99999999999999999999"],
        ))  # fmt: skip

    def _body(self) -> bytes:
        drawn = self.drawn
        kind = drawn.randrange(10)
        if kind < 2:
            return b""
        if kind < 7:
            written = orjson.dumps(self._json(3), option=orjson.OPT_NON_STR_KEYS)
            return written if drawn.random() < 0.9 else written[: drawn.randrange(len(written) + 1)]
        return drawn.choice((*_BODIES, drawn.randbytes(200), b"\x1f\x8b\x08" + drawn.randbytes(100)))

    def _json(self, depth: int) -> Any:
        drawn = self.drawn
        kind = drawn.randrange(8) if depth < 3 else 7
        if depth and kind > 4:
            return {drawn.choice(_NAMES): self._json(depth - 1) for _ in range(drawn.randrange(5))}
        if depth and kind == 4:
            return [self._json(depth - 1) for _ in range(drawn.randrange(4))]
        number = drawn.choice(_NUMBERS)
        if kind == 0 and (not isinstance(number, int) or -(2**63) <= number < 2**64):
            return number
        return drawn.choice(
            (*_ODD, "projects/demo", "projects/demo/locations/local", "user:ada@example.org", "2026-02-30T25:61:61Z")
        )

    def _broken(self, made: bytes) -> bytes:
        drawn = self.drawn
        at = drawn.randrange(len(made))
        match drawn.randrange(4):
            case 0:
                return made[:at]
            case 1:
                return made[:at] + drawn.randbytes(drawn.randrange(1, 6)) + made[at + 1 :]
            case 2:
                return made[:at] + drawn.choice(_LINES).encode() + made[at:]
            case _:
                return made.replace(b"\r\n", drawn.choice(_LINES).encode(), drawn.randrange(1, 4))
