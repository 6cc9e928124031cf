"""A small registry for tests of clients: tokens, uploads in one request, mounts, manifests; all in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class SmallRegistry:
    """What the registry keeps and what it was asked."""

    port: int = 0
    password: str = "right"
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict[tuple[str, str], bytes])
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(
        default_factory=dict[tuple[str, str], tuple[str, bytes]]
    )
    asked: list[str] = field(default_factory=list[str])
    failing_uploads: int = 0
    """How many uploads break off before they are allowed to succeed."""
    in_container_registrys_form: bool = False
    """Lists of tags tell names further down and manifests without a tag; there is no catalog."""
    tells_referrers: bool = True
    page: int = 2
    """Entries in a page of a list."""

    @property
    def host(self) -> str:
        """What stands before the first slash of a name."""
        return f"127.0.0.1:{self.port}"

    def names(self) -> list[str]:
        """All names that have manifests."""
        return sorted({name for name, _ in self.manifests})

    def tags(self, name: str) -> list[str]:
        """The tags of a name."""
        return sorted(tag for known, tag in self.manifests if known == name and ":" not in tag)

    def digests(self, name: str) -> list[str]:
        """The manifests of a name."""
        return sorted(digest for known, digest in self.manifests if known == name and ":" in digest)

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """Descriptors of what refers to a manifest."""
        return [
            {"mediaType": media_type, "digest": known, "size": len(content)}
            for (where, known), (media_type, content) in self.manifests.items()
            if where == name and ":" in known and json.loads(content).get("subject", {}).get("digest") == digest
        ]


@contextmanager
def small_registry() -> Iterator[SmallRegistry]:
    """A registry on a free port, for as long as the block lasts."""
    registry = SmallRegistry()

    class Handler(_Handler):
        kept = registry

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kept: SmallRegistry

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        self.kept.asked.append(f"{self.command} {self.path}")
        if path.path == "/token":
            return self._token(parse_qs(path.query))
        if self.headers.get("Authorization") != "Bearer good":
            realm = f'Bearer realm="http://{self.kept.host}/token",service="small"'
            return self._answer(401, {"errors": [{"code": "UNAUTHORIZED"}]}, {"WWW-Authenticate": realm})
        return self._read(path.path, parse_qs(path.query))

    def _read(self, path: str, query: dict[str, list[str]]) -> None:
        name, _, rest = path.removeprefix("/v2/").rpartition("/")
        name, _, kind = name.rpartition("/")
        if kind == "blobs" and (content := self.kept.blobs.get((name, rest))) is not None:
            self._answer(200, content)
        elif kind == "manifests" and (found := self.kept.manifests.get((name, rest))) is not None:
            digest = f"sha256:{hashlib.sha256(found[1]).hexdigest()}"
            self._answer(200, found[1], {"Content-Type": found[0], "Docker-Content-Digest": digest})
        elif (kind, rest) == ("tags", "list"):
            self._tags(name, path, query)
        elif kind == "referrers" and self.kept.tells_referrers:
            self._answer(200, {"schemaVersion": 2, "manifests": self.kept.referrers(name, rest)})
        elif path == "/v2/_catalog" and not self.kept.in_container_registrys_form:
            self._page("repositories", self.kept.names(), path, query)
        elif path == "/v2/":
            self._answer(200, {})
        else:
            self._answer(404, {"errors": [{"code": "NAME_UNKNOWN", "message": "not here"}]})

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def do_POST(self) -> None:
        self.kept.asked.append(f"{self.command} {self.path}")
        path = urlsplit(self.path)
        name = path.path.removeprefix("/v2/").removesuffix("/blobs/uploads/")
        query = {key: values[0] for key, values in parse_qs(path.query).items()}
        there = self.kept.blobs.get((query.get("from", ""), query.get("mount", "")))
        if there is not None:
            self.kept.blobs[name, query["mount"]] = there
            return self._answer(201, {})
        return self._answer(202, {}, {"Location": f"/v2/{name}/blobs/uploads/1?state=x"})

    def do_DELETE(self) -> None:
        self.kept.asked.append(f"{self.command} {self.path}")
        self._answer(204, b"")

    def do_PUT(self) -> None:
        self.kept.asked.append(f"{self.command} {self.path}")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path)
        if "/blobs/uploads/" in path.path:
            return self._put_blob(path.path, parse_qs(path.query)["digest"][0], content)
        name, _, reference = path.path.removeprefix("/v2/").rpartition("/")
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        for key in (reference, digest):
            self.kept.manifests[name.removesuffix("/manifests"), key] = (self.headers["Content-Type"], content)
        return self._answer(201, {}, {"Docker-Content-Digest": digest})

    def _tags(self, name: str, path: str, query: dict[str, list[str]]) -> None:
        tags, digests = self.kept.tags(name), self.kept.digests(name)
        below = sorted(
            {known[len(name) + 1 :].partition("/")[0] for known in self.kept.names() if known.startswith(f"{name}/")}
        )
        if self.kept.in_container_registrys_form:
            tagged = {tag: hashlib.sha256(self.kept.manifests[name, tag][1]).hexdigest() for tag in tags}
            manifests = {
                digest: {"tag": [tag for tag, hexes in tagged.items() if digest == f"sha256:{hexes}"]}
                for digest in digests
            }
            return self._answer(200, {"name": name, "tags": tags, "child": below, "manifest": manifests})
        if not digests:
            return self._answer(404, {"errors": [{"code": "NAME_UNKNOWN"}]})
        return self._page("tags", tags, path, query)

    def _page(self, field: str, entries: list[str], path: str, query: dict[str, list[str]]) -> None:
        rest = [entry for entry in entries if entry > query.get("last", [""])[0]]
        shown = rest[: self.kept.page]
        more = {"Link": f'<{path}?n={self.kept.page}&last={shown[-1]}>; rel="next"'} if len(rest) > len(shown) else {}
        self._answer(200, {field: shown}, more)

    def _put_blob(self, path: str, digest: str, content: bytes) -> None:
        if self.kept.failing_uploads:
            self.kept.failing_uploads -= 1
            return self._answer(502, {})
        if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
            return self._answer(400, {"errors": [{"code": "DIGEST_INVALID"}]})
        self.kept.blobs[path.removeprefix("/v2/").partition("/blobs/")[0], digest] = content
        return self._answer(201, {})

    def _token(self, query: dict[str, list[str]]) -> None:
        given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if given.partition(":")[2] != self.kept.password:
            return self._answer(401, {})
        return self._answer(200, {"token": "good", "scope": query.get("scope", [])})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: tests read `asked`."""
