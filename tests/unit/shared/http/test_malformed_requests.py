"""Requests that nobody should send: none of them is answered with a defect, and the face goes on answering."""

import asyncio
from collections.abc import Generator

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.masks import apply_mask, field_mask
from shared.http.pages import page_of
from shared.http.routes import Audit, Route
from shared.http.serve import Place, Server
from shared.http.translation import json_answer
from tests.support.parts import memory_parts

ADA = "user:ada@example.org"
THING = "/v1/projects/{project}/locations/{location}/things/{thing}"


async def _list(request: web.Request) -> web.Response:
    page = page_of(request)
    return json_answer({"size": page.size, "after": page.after})


async def _patch(request: web.Request) -> web.Response:
    body = await json_body(request, limit=10_000, strict=True)
    changed = apply_mask({"a": 1}, body, field_mask(request))
    call = call_of(request)
    entry = call.activity(project="demo", request=body, response=changed)
    return json_answer({"thing": changed, "entry": entry.data()})


class Face:
    """A face on a socket, in a loop of its own, for a test that is not asynchronous."""

    def __init__(self) -> None:
        routes = [
            Route("GET", "/v1/projects/{project}/locations/{location}/things", _list, "things.list", method="t.List"),
            Route("PATCH", THING, _patch, "things.update", method="t.Update", audit=Audit.ADMIN_WRITE),
            Route("PATCH", "/open/{rest:.*}", _patch, "", open_because="a test", audit=Audit.NONE),
            Route("GET", "/open/{rest:.*}", _list, "", open_because="a test", audit=Audit.NONE),
        ]
        made = memory_parts("cleanup", grants={"projects/demo": {ADA: ["things.list", "things.update"]}})
        self.runner = asyncio.Runner()
        self.server = self.runner.run(self._start(made.parts.face(routes)))

    async def _start(self, app: web.Application) -> Server:
        server = Server(app, Place(), asyncio.get_running_loop().time)
        await server.start()
        return server

    def ask(self, content: bytes, seconds: float = 0.1) -> bytes:
        """Send bytes and return the status line of the answer; empty: none came, for the request had no end."""
        return self.runner.run(self._ask(content, seconds))

    async def _ask(self, content: bytes, seconds: float) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            writer.write(content)
            async with asyncio.timeout(seconds):
                return await reader.readline()
        except (ConnectionError, TimeoutError):
            return b""
        finally:
            writer.close()

    def close(self) -> None:
        self.runner.run(self.server.stop())
        self.runner.close()


@pytest.fixture(scope="module")
def face() -> Generator[Face]:
    made = Face()
    yield made
    made.close()


def _escaped(raw: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in raw)


TARGETS = st.one_of(
    st.sampled_from(
        [
            "/v1/projects/demo/locations/local/things",
            "/v1/projects/demo/locations/local/things/a",
            "/v1/projects/demo%2Flocations/locations/local/things/a",
            "/open/a",
            "/open/%ff%fe%00",
            "//open//..//a",
            "/open/../../etc/passwd",
            "*",
            "http://[::1]:99999/open/a",
        ]
    ),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60).map(lambda text: f"/open/{text}"),
    st.binary(max_size=30).map(
        lambda raw: "/v1/projects/" + "".join(f"%{byte:02x}" for byte in raw) + "/locations/l/things"
    ),
)
QUERIES = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=30) | st.sampled_from(
    [
        "pageSize=-1",
        "pageToken=AAAA",
        "updateMask=a,b.c",
        "updateMask=%ff",
        "pageSize=1&pageSize=x",
        "updateMask=" + "a." * 500,
    ]
)
HEADERS = st.lists(
    st.sampled_from(
        [
            b"Authorization: Bearer as:" + ADA.encode(),
            b"Authorization: Bearer \xff\xfe",
            b"Authorization: Basic Og==",
            b"Content-Type: text/plain; charset=nonsense",
            b"Content-Encoding: gzip",
            b"X-Request-Id: \xc3\xa9",
            b"X-Forwarded-For: nobody",
            b"User-Agent: \xff\xfe\x80",
            b"traceparent: 00-zz",
            b"traceparent: 00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
            b"Expect: 100-continue",
            b"Range: bytes=9-1",
            b"If-None-Match: *",
            b"Cookie: a=b; c",
            b"Host: a b",
            b"Transfer-Encoding: gzip",
            b"Connection: upgrade",
            b"Upgrade: websocket",
        ]
    )
    | st.binary(max_size=40).map(lambda raw: b"X-Any: " + raw.replace(b"\r", b"").replace(b"\n", b"")),
    max_size=5,
)
BODIES = st.binary(max_size=200) | st.sampled_from(
    [
        b"{}",
        b'{"a": 1, "a": 2}',
        b'{"a": ' * 300,
        b'{"a": "\\ud800"}',
        b'{"a": 1e999}',
        b"[]",
        b"\xff",
        b'{"a": %s}' % (b"9" * 5000),
    ]
)
METHODS = st.sampled_from(["GET", "PATCH", "HEAD", "OPTIONS", "DELETE", "CONNECT", "PUT", "get", "X" * 50, "G\x00T"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(METHODS, TARGETS, QUERIES, HEADERS, BODIES, st.sampled_from(["right", "wrong", "none", "chunked"]))
def test_no_request_is_answered_with_a_defect(  # noqa: PLR0917 - the parts of a request
    face: Face, method: str, target: str, query: str, headers: list[bytes], body: bytes, length: str
) -> None:
    framing = {
        "right": [b"Content-Length: %d" % len(body)],
        "wrong": [b"Content-Length: %d" % (len(body) + 7)],
        "none": [],
        "chunked": [b"Transfer-Encoding: chunked"],
    }[length]
    head = [f"{method} {target}?{query} HTTP/1.1".encode(), b"Host: h", *framing, *headers]
    status = face.ask(b"\r\n".join(head) + b"\r\n\r\n" + body)
    assert not status.startswith(b"HTTP/1.1 5"), status


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_bytes_that_are_no_request_are_not_answered_with_a_defect(face: Face, content: bytes) -> None:
    status = face.ask(content)
    assert not status.startswith(b"HTTP/1.1 5"), status


def test_the_face_answers_after_all_that(face: Face) -> None:
    request = b"GET /v1/projects/demo/locations/local/things HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer as:%s\r\n\r\n"
    assert face.ask(request % ADA.encode(), 10).startswith(b"HTTP/1.1 200 ")
