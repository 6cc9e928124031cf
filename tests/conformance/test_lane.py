"""The lane answers exactly as the middleware does, and leaves to it whatever is not a plain success."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.registry import reading
from shared.events.audit import AuditAccess, AuditDenied
from shared.events.images import ImagePulled
from shared.events.states import PolicyState, ProjectState
from shared.http.connection import LaneConnection
from shared.identity.caller import Caller, Grant
from tests.support.perimeters import fence_of
from tests.support.registry import ADA, BEN, NAME, WEB, RegistryClient, registry, small_image

HOST = b"Host: registry.example:5000\r\n"
BEARER = f"Authorization: Bearer as:{ADA}\r\n".encode()
USUAL = HOST + BEARER + b"User-Agent: docker/28\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n"
OF_ITS_OWN = ("date", "x-request-id")
"""Headers that no two answers share."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    def same(self) -> tuple[int, dict[str, str], bytes]:
        return self.status, {name: text for name, text in self.headers.items() if name not in OF_ITS_OWN}, self.content


@dataclass
class Taken:
    """How many requests the lane answered."""

    count: int = 0


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Taken]:
    found, answer = Taken(), LaneConnection.answer

    def counted(self: LaneConnection, content: bytes) -> None:
        found.count += 1
        answer(self, content)

    monkeypatch.setattr(LaneConnection, "answer", counted)
    return found


@dataclass
class Wire:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    verbs: list[bytes] = field(default_factory=list)

    async def ask(self, head: bytes) -> Reply:
        self.writer.write(head)
        return await self.reply(head)

    async def reply(self, head: bytes) -> Reply:
        async with asyncio.timeout(10):
            while True:
                first, *rest = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                status = int(first.split()[1])
                if status != 100:
                    break
            pairs = [line.split(": ", 1) for line in rest]
            assert len({name.lower() for name, _ in pairs}) == len(pairs), "a header came twice"
            headers = {name.lower(): value for name, value in pairs}
            bodiless = head.startswith(b"HEAD ") or status in {101, 204, 304}
            size = 0 if bodiless else int(headers.get("content-length", "0"))
            return Reply(status, headers, await self.reader.readexactly(size))


@asynccontextmanager
async def wire(oci: RegistryClient) -> AsyncGenerator[Wire]:
    server = oci.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        await asyncio.sleep(0.01)
        yield Wire(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def both() -> AsyncGenerator[tuple[RegistryClient, RegistryClient, str]]:
    """The same content with a lane and without, and the digest of what `v1` points at."""
    image = small_image()
    async with registry() as quick, registry(lane=False) as plain:
        for each in (quick, plain):
            await each.push(image, "v1")
            assert (await each.call("GET", f"/v2/{NAME}/manifests/v1")).status == 200
        yield quick, plain, image.digest


def get(reference: str, headers: bytes = USUAL, verb: str = "GET") -> bytes:
    return f"{verb} /v2/{NAME}/manifests/{reference} HTTP/1.1\r\n".encode() + headers + b"\r\n"


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
async def test_what_the_lane_answers_is_what_the_middleware_answers(verb: str, taken: Taken) -> None:
    async with both() as (quick, plain, digest), wire(quick) as lane, wire(plain) as way:
        taken.count = 0
        for reference in ("v1", digest):
            expected = (await way.ask(get(reference, verb=verb))).same()
            for _ in range(3):  # the second time the head is known already
                assert (await lane.ask(get(reference, verb=verb))).same() == expected
            assert expected[0] == 200
            assert expected[1]["docker-content-digest"] == digest
        assert taken.count == 6


async def test_a_lane_leaves_the_connection_as_good_as_it_was() -> None:
    async with both() as (quick, _, digest), wire(quick) as lane:
        for head in (get("v1"), get("v1"), get("absent"), get("v1"), get(digest), get("v1", verb="HEAD"), get("v1")):
            reply = await lane.ask(head)
            assert reply.status == (404 if b"absent" in head else 200)


WITH_BODY = get("v1", USUAL + b"Content-Length: 3\r\n") + b"abc"
UNUSUAL = {
    "a client that closes": get("v1", USUAL + b"Connection: close\r\n"),
    "HTTP 1.0": get("v1").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "what is known already": get("v1", USUAL + b'If-None-Match: "DIGEST"\r\n'),
    "a range": get("v1", USUAL + b"Range: bytes=0-9\r\n"),
    "an expectation": get("v1", USUAL + b"Expect: 100-continue\r\n"),
    "an impossible expectation": get("v1", USUAL + b"Expect: wonders\r\n"),
    "a query": get("v1?tag=v2"),
    "an escaped name": get("%761"),
    "a fragment": get("v1#part"),
    "an address": get("v1").replace(b"/v2/", b"http://registry.example:5000/v2/", 1),
    "a body": WITH_BODY,
    "an empty body": get("v1", USUAL + b"Content-Length: 0\r\n"),
    "a body in chunks": get("v1", USUAL + b"Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n0\r\n\r\n",
    "two bearers": get("v1", USUAL + BEARER),
    "another scheme": get("v1", HOST + b"Authorization: Basic YTpi\r\n"),
    "a token that is none": get("v1", HOST + b"Authorization: Bearer nonsense\r\n"),
    "no token": get("v1", HOST + b"Authorization: Bearer \r\n"),
    "nobody": get("v1", HOST),
    "somebody without a right": get("v1", HOST + f"Authorization: Bearer as:{BEN}\r\n".encode()),
    "an upgrade": get("v1", USUAL + b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
    "an upgrade to HTTP 2": get("v1", USUAL + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"),
    "an odd header": get("v1", USUAL + b"X-Odd: yes\r\n"),
    "a cookie": get("v1", USUAL + b"Cookie: a=b\r\n"),
    "two hosts": get("v1", USUAL + b"Host: other.example\r\n"),
    "no host": get("v1", BEARER),
    "a tag that is not there": get("v2"),
    "a digest that is not there": get("sha256:" + "0" * 64),
    "a digest of no algorithm": get("md5:" + "0" * 32),
    "a tag that cannot be": get("-v1"),
    "a tag that is too long": get("v" * 200),
    "an image that is not there": get("v1").replace(b"/app/", b"/none/"),
    "a name that cannot be": get("v1").replace(b"/app/", b"/App/"),
    "a name that is too long": get("v1").replace(b"/app/", b"/" + b"a" * 250 + b"/"),
    "another verb": get("v1", verb="OPTIONS"),
    "a small verb": get("v1", verb="get"),
    "folded lines": get("v1", USUAL + b"Accept: a,\r\n b\r\n"),
    "a bad header": get("v1", USUAL + b"Bad Header: x\r\n"),
    "no head at all": b"\x16\x03\x01\x02\x00\r\n\r\n",
}


@pytest.mark.parametrize("case", UNUSUAL)
async def test_what_is_unusual_is_answered_as_if_there_were_no_lane(case: str, taken: Taken) -> None:
    async with both() as (quick, plain, digest), wire(quick) as lane, wire(plain) as way:
        head = UNUSUAL[case].replace(b"DIGEST", digest.encode())
        taken.count = 0
        for _ in range(2):
            expected, found = await outcome(way, head), await outcome(lane, head)
            assert found == expected
        assert taken.count == 0


async def outcome(place: Wire, head: bytes) -> object:
    """What comes back, or that nothing does; addresses of this server are the same for both."""
    try:
        status, headers, content = (await place.ask(head)).same()
    except (asyncio.IncompleteReadError, ConnectionError):
        return "closed"
    return status, headers, content


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    chosen=st.lists(st.sampled_from(["v1", "absent", "DIGEST", "head", "body", "repeat"]), min_size=1, max_size=45),
    cuts=st.lists(st.integers(1, 20_000), max_size=12),
)
def test_requests_one_behind_the_other_in_any_pieces_are_answered_in_order(
    chosen: Sequence[str], cuts: Sequence[int]
) -> None:
    async def run() -> None:
        async with registry() as oci, wire(oci) as lane:
            image = small_image()
            await oci.push(image, "v1")
            special = {
                "head": get("v1", verb="HEAD"),
                "body": WITH_BODY,
                "repeat": get("v1"),
                "DIGEST": get(image.digest),
            }
            heads = [special.get(each, get(each)) for each in chosen]
            sending = asyncio.create_task(send_in_pieces(lane, b"".join(heads), cuts))
            for each, head in zip(chosen, heads, strict=True):
                reply = await lane.reply(head)
                assert reply.status == (404 if each == "absent" else 200)
                assert len(reply.content) == (0 if each == "head" else int(reply.headers["content-length"]))
            await sending

    asyncio.run(run())


async def send_in_pieces(place: Wire, content: bytes, cuts: Sequence[int]) -> None:
    ends = sorted({cut % len(content) for cut in cuts} | {len(content)})
    start = 0
    for end in ends:
        place.writer.write(content[start:end])
        await place.writer.drain()
        await asyncio.sleep(0.0005)
        start = end


async def test_a_request_is_called_as_its_caller_calls_it_or_by_a_name_of_its_own(taken: Taken) -> None:
    async with both() as (quick, _, _), wire(quick) as lane:
        taken.count = 0
        named = get("v1", USUAL + b"X-Request-Id: build-4711-pull\r\n")
        assert (await lane.ask(named)).headers["x-request-id"] == "build-4711-pull"
        insane = get("v1", USUAL + b"X-Request-Id: {}\r\n")
        names = [(await lane.ask(head)).headers["x-request-id"] for head in (insane, insane, get("v1"), get("v1"))]
        assert len(set(names)) == 4
        assert "{}" not in names
        assert taken.count == 5


async def test_a_right_that_is_taken_away_ends_known_requests_at_once(taken: Taken) -> None:
    async with both() as (quick, _, _), wire(quick) as lane:
        taken.count = 0
        assert [(await lane.ask(get("v1"))).status for _ in range(2)] == [200, 200]
        quick.parts.learn(PolicyState(project="demo", full_name="projects/demo", bindings=()))
        assert (await lane.ask(get("v1"))).status == 403
        quick.parts.grant(WEB, ADA, "artifactregistry.repositories.downloadArtifacts")
        assert (await lane.ask(get("v1"))).status == 200
        quick.parts.learn(ProjectState(project="demo", number=1, state="DELETE_REQUESTED"))
        assert (await lane.ask(get("v1"))).status == 403
        assert taken.count == 3


async def test_a_perimeter_ends_known_requests_at_once_and_the_middleware_says_who_is_let_in(taken: Taken) -> None:
    async with both() as (quick, _, _), wire(quick) as lane:
        project = quick.parts.directory.project("demo")
        assert project is not None
        taken.count = 0
        assert [(await lane.ask(get("v1"))).status for _ in range(2)] == [200, 200]
        quick.parts.learn(fence_of(project.number))
        assert (await lane.ask(get("v1"))).status == 403
        quick.parts.learn(fence_of(project.number, "127.0.0.0/8", "::1/128"))
        assert (await lane.ask(get("v1"))).status == 200
        assert taken.count == 3


async def test_a_token_that_counts_no_longer_ends_known_requests_at_once(taken: Taken) -> None:
    async with both() as (quick, _, _), wire(quick) as lane:
        quick.parts.tokens.known["secret"] = Caller(ADA)
        head = get("v1", HOST + b"Authorization: Bearer secret\r\n")
        taken.count = 0
        assert [(await lane.ask(head)).status for _ in range(2)] == [200, 200]
        del quick.parts.tokens.known["secret"]
        assert (await lane.ask(head)).status == 401
        assert taken.count == 2


async def test_a_token_for_one_image_does_not_reach_its_neighbour(taken: Taken) -> None:
    async with both() as (quick, _, _), wire(quick) as lane:
        quick.parts.tokens.known["this"] = Caller(ADA, access=(Grant("repository", NAME, ("pull",)),))
        quick.parts.tokens.known["that"] = Caller(ADA, access=(Grant("repository", "demo/web/other", ("pull",)),))
        quick.parts.tokens.known["push"] = Caller(ADA, access=(Grant("repository", NAME, ("push",)),))
        taken.count = 0
        found = {
            name: [
                (await lane.ask(get("v1", HOST + f"Authorization: Bearer {name}\r\n".encode()))).status for _ in "12"
            ]
            for name in ("this", "that", "push")
        }
        assert found == {"this": [200, 200], "that": [401, 401], "push": [401, 401]}
        assert taken.count == 2


async def test_a_tag_that_moves_or_goes_is_seen_by_the_next_known_request(taken: Taken) -> None:
    async with both() as (quick, _, digest), wire(quick) as lane:
        taken.count = 0
        for number in range(5):
            image = small_image(f"other {number}")
            await quick.push(image, "v1")
            assert (await lane.ask(get("v1"))).headers["docker-content-digest"] == image.digest
            assert (await lane.ask(get("v1"))).headers["docker-content-digest"] == image.digest
        assert taken.count >= 5  # the first after each push reads the bucket
        await quick.call("DELETE", f"/v2/{NAME}/manifests/v1")
        assert (await lane.ask(get("v1"))).status == 404
        assert (await lane.ask(get(digest))).status == 200


async def test_audited_reads_and_denials_are_noted_once_each() -> None:
    configs = ({"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ"}]},)
    async with both() as (quick, _, _), wire(quick) as lane:
        before = quick.parts.directory.policy("projects/demo")
        assert before is not None
        assert (await lane.ask(get("v1"))).status == 200
        quick.parts.learn(before.model_copy(update={"audit_configs": configs}))
        quick.parts.journal.events.clear()
        assert [(await lane.ask(get("v1"))).status for _ in range(3)] == [200] * 3
        noted = [event for event in quick.parts.journal.events if isinstance(event, AuditAccess)]
        assert len(noted) == 3


async def test_pulls_are_counted_and_calls_measured_as_everywhere(taken: Taken) -> None:
    async with registry() as oci:
        image = small_image()
        await oci.push(image, "v1")
        await oci.call("GET", f"/v2/{NAME}/manifests/v1")
        pulls = next(each for each in oci.background if "keep_telling" in each.__qualname__).__self__
        await pulls.tell()
        oci.parts.journal.events.clear()
        async with wire(oci) as lane:
            taken.count = 0
            for head in (get("v1"), get("v1"), get(image.digest), get("v1", verb="HEAD")):
                assert (await lane.ask(head)).status == 200
            assert taken.count == 4
        await pulls.tell()
        [pulled] = [event for event in oci.parts.journal.events if isinstance(event, ImagePulled)]
        assert (pulled.digest, pulled.count, pulled.looks) == (image.digest, 3, 1)
        counted = oci.parts.parts.metrics.text().decode()
        [line] = [
            line for line in counted.splitlines() if line.startswith("entrepot_http_seconds_count") and 'HEAD"' in line
        ]
        assert line.endswith(" 1.0")
        assert "entrepot_http_in_flight{" in counted
        assert [line[-3:] for line in counted.splitlines() if line.startswith("entrepot_http_in_flight{")] == ["0.0"]


async def test_what_is_too_large_to_be_remembered_is_read_by_the_middleware(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LARGEST_REMEMBERED", 10)
    async with registry() as oci:
        image = small_image()
        await oci.push(image, "v1")
        async with wire(oci) as lane:
            taken.count = 0
            assert [(await lane.ask(get("v1"))).content for _ in range(2)] == [image.manifest] * 2
            assert taken.count == 0


async def test_a_perimeter_lets_in_who_calls_from_its_networks_and_notes_who_does_not(taken: Taken) -> None:
    async with both() as (quick, _, _), wire(quick) as lane:
        taken.count = 0
        assert (await lane.ask(get("v1"))).status == 200
        quick.parts.learn(fence_of(1, "127.0.0.0/8"))
        assert [(await lane.ask(get("v1"))).status for _ in range(2)] == [200, 200]
        assert taken.count == 3
        quick.parts.learn(fence_of(1))
        quick.parts.journal.events.clear()
        assert [(await lane.ask(get("v1"))).status for _ in range(2)] == [403, 403]
        assert [type(event) for event in quick.parts.journal.events] == [AuditDenied] * 2
        assert taken.count == 3


async def test_everybody_may_read_what_is_public_and_each_address_has_its_own_queue(taken: Taken) -> None:
    async with both() as (quick, plain, _), wire(quick) as lane, wire(plain) as way:
        for each in (quick, plain):
            each.parts.grant(WEB, "allUsers", "artifactregistry.repositories.downloadArtifacts")
        taken.count = 0
        expected = (await way.ask(get("v1", HOST))).same()
        assert expected[0] == 200
        assert (await lane.ask(get("v1", HOST))).same() == expected
        assert (await lane.ask(get("v1", HOST))).same() == expected
        assert taken.count == 2
