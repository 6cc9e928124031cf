"""Two processes of each service on one bus, state and bucket share the work: nothing lost, nothing done twice."""

import asyncio
import itertools
import json
import os
import re
import shutil
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from cli import keyfile
from cli import suite as suites
from cli.api import access_token
from cli.bus import operator
from shared.bus.tail import Tail
from tests.performance.load import Connection, must, path_of, push_blob, push_manifest
from tests.support.images import CONFIG, MANIFEST, Image, descriptor, digest_of, image_of, layer_of
from tests.support.suite import SERVICES, Suite, running
from tests.support.twins import Twin, started, twin_of, twins_of

pytestmark = pytest.mark.timeout(240)

REPOSITORY = "projects/demo/locations/local/repositories"
ASKED = {
    "registry": f"v1/{REPOSITORY}",
    "identity": "v1/projects/demo/serviceAccounts",
    "builder": "v1/projects/demo/builds",
    "scanner": "v1/projects/demo/occurrences",
    "attestor": "v1/projects/demo/attestors",
    "cleanup": f"v1/{REPOSITORY}/tokens/cleanupRuns",
    "audit_log": "v2/projects/demo/sinks",
}
"""What a token opens, at each service."""

_STATUS = "Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0-1\n\n"


@dataclass(frozen=True)
class Pair:
    """A suite, and a twin of each of its services."""

    suite: Suite
    twins: dict[str, Twin]
    token: str

    def addresses(self, service: str) -> tuple[str, str]:
        """Both replicas of a service."""
        return self.suite.address(service), self.twins[service].address

    def call(self, address: str, path: str, body: Any = None, *, verb: str = "", token: str = "") -> Any:
        """Call a JSON face of one replica."""
        request = urllib.request.Request(
            f"{address}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"},
            method=verb or ("GET" if body is None else "POST"),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    @asynccontextmanager
    async def registries(self) -> AsyncGenerator[tuple[Connection, Connection], None]:
        """A connection to each registry."""
        headers = {"Authorization": f"Bearer {self.token}", "Accept": MANIFEST}
        first, second = Connection(self.suite.base, headers), Connection(self.twins["registry"].port, headers)
        try:
            yield first, second
        finally:
            first.drop()
            second.drop()

    async def said(self, topic: str) -> list[dict[str, Any]]:
        """Everything that the bus keeps of a topic."""
        tail = Tail(operator(suites.of(str(self.suite.data))), asyncio.sleep)
        found = [orjson.loads(one.content) async for one in tail.follow("EVENTS", f"{topic}.>", 0, endless=False)]
        await tail.close()
        return found

    def handled(self, service: str, topic: str) -> list[int]:
        """How many events of a topic each replica has handled."""
        counts: list[int] = []
        for address in self.addresses(service):
            with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            series = rf'^entrepot_event_seconds_count{{.*topic="{re.escape(topic)}".*}} (\S+)$'
            found = re.findall(series, text, re.MULTILINE)
            counts.append(sum(int(float(number)) for number in found))
        return counts


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Started once: fourteen processes take a while."""
    folder = tmp_path_factory.mktemp("replicas")
    with running(folder) as suite:
        twins = twins_of(suite, folder / "twin")
        with started(twins):
            made = Pair(suite, twins, suite.token())
            # A scan without any advisories is no ground to attest anything.
            advisory = {"id": "X-1", "affected": [{"package": {"ecosystem": "PyPI", "name": "x"}, "versions": ["1"]}]}
            path = "v1/projects/demo/advisories:import?source=test"
            made.call(made.addresses("scanner")[0], path, {**advisory, "modified": "2026-01-01T00:00:00Z"})
            yield made


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 60.0) -> None:
    """Wait until something holds."""
    assert await came(holds, seconds), what


async def came(holds: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Whether something holds within that time."""
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() >= end:
            return False
        await asyncio.sleep(0.2)
    return True


def image_with(name: str) -> Image:
    """A small image with one package, unlike all others."""
    layer = layer_of({"var/lib/dpkg/status": _STATUS.format(name=name).encode(), "etc/os-release": b"ID=debian\n"})
    return image_of([layer])


async def push(connection: Connection, name: str, tag: str, image: Image) -> None:
    """Blobs, then the manifest."""
    for content in image.blobs.values():
        await push_blob(connection, name, content)
    await push_manifest(connection, name, tag, image.manifest, MANIFEST)


async def test_what_is_pushed_through_either_registry_is_read_at_once_through_the_other(pair: Pair) -> None:
    name = "demo/twins/app"
    async with pair.registries() as both:
        for number in range(20):
            here, there = both[number % 2], both[1 - number % 2]
            image = image_with(f"read-{number}")
            await push(here, name, "moving", image)
            read = await there.call("GET", f"/v2/{name}/manifests/moving")
            layer = next(iter(image.blobs))
            blob = await there.call("GET", f"/v2/{name}/blobs/{layer}")

            assert (read.status, read.body) == (200, image.manifest)
            assert blob.body == image.blobs[layer]


async def test_an_upload_begun_at_one_registry_goes_on_at_the_other(pair: Pair) -> None:
    pieces = [os.urandom(70_000) for _ in range(4)]
    whole, sent = b"".join(pieces), 0
    async with pair.registries() as both:
        answer = await both[0].call("POST", "/v2/demo/twins/upload/blobs/uploads/")
        must(answer, 202)
        for piece, registry in zip(pieces, (both[1], both[0], both[1], both[0]), strict=True):
            span = {"Content-Range": f"{sent}-{sent + len(piece) - 1}", "Content-Type": "application/octet-stream"}
            answer = await registry.call("PATCH", path_of(answer.headers["location"]), piece, span)
            must(answer, 202)
            sent += len(piece)
        place = path_of(answer.headers["location"])
        must(await both[1].call("PUT", f"{place}&digest={digest_of(whole)}"), 201)
        read = await both[0].call("GET", f"/v2/demo/twins/upload/blobs/{digest_of(whole)}")

    assert read.body == whole


async def test_a_token_of_either_identity_counts_everywhere(pair: Pair) -> None:
    async with pair.registries() as (first, _):
        await push(first, "demo/tokens/app", "v1", image_with("tokens"))
    key = keyfile.read(pair.suite.admin_key)
    for issuer in pair.addresses("identity"):
        token = access_token(key, issuer)
        for service in SERVICES:
            for address in pair.addresses(service):
                pair.call(address, ASKED[service], token=token)


async def test_an_account_made_at_one_identity_is_known_to_the_other(pair: Pair) -> None:
    first, second = pair.addresses("identity")
    made = pair.call(first, ASKED["identity"], {"accountId": "sailor"})
    key = pair.call(second, f"v1/{made['name']}/keys", {})

    assert key["name"].startswith(made["name"])
    assert pair.call(second, f"v1/{made['name']}")["uniqueId"] == made["uniqueId"]


async def test_both_scanners_and_both_attestors_take_a_share_and_nothing_is_done_twice(pair: Pair) -> None:
    attestor = pair.addresses("attestor")[1]
    threshold = {"maximumFixableSeverity": "LOW", "maximumUnfixableSeverity": "MEDIUM"}
    pair.call(attestor, "v1/projects/demo/attestors?attestorId=twins", {"autoAttest": threshold})
    before = {service: pair.handled(service, "image.pushed") for service in ("scanner", "attestor")}
    images = [image_with(f"share-{number}") for number in range(40)]
    async with pair.registries() as both:
        for number, image in enumerate(images):
            await push(both[number % 2], "demo/share/app", f"v{number}", image)
    digests = {image.digest for image in images}

    async def all_attested() -> bool:
        return digests <= {event["data"]["digest"] for event in await pair.said("attestation.created")}

    await until(all_attested, "not everything was attested")
    scanned = Counter(event["data"]["digest"] for event in await pair.said("scan.completed"))
    signed = Counter(event["data"]["digest"] for event in await pair.said("attestation.created"))
    for service, counts in before.items():
        shares = [now - then for now, then in zip(pair.handled(service, "image.pushed"), counts, strict=True)]
        assert min(shares) > 0, f"a {service} had nothing to do: {shares}"
        assert sum(shares) == len(images), f"{service}: {shares}"
    assert {scanned[digest] for digest in digests} == {1}
    assert {signed[digest] for digest in digests} == {1}


async def test_both_attestors_answer_kubernetes_the_same(pair: Pair) -> None:
    one, other = pair.addresses("attestor")
    rule = {
        "evaluationMode": "REQUIRE_ATTESTATION",
        "requireAttestationsBy": ["projects/demo/attestors/admitted"],
        "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
    }
    pair.call(one, "v1/projects/demo/attestors?attestorId=admitted", {"autoAttest": {"maximumFixableSeverity": "LOW"}})
    pair.call(other, "v1/projects/demo/policy", {"defaultAdmissionRule": rule}, verb="PUT")
    image = image_with("admitted")
    async with pair.registries() as (_, second):
        await push(second, "demo/admitted/app", "v1", image)
    good = f"{pair.suite.registry}/demo/admitted/app@{image.digest}"
    bad = f"{pair.suite.registry}/demo/admitted/app@sha256:{'0' * 64}"

    async def both_allow() -> bool:
        return all(pair.call(at, "admit?project=demo", review(good))["response"]["allowed"] for at in (one, other))

    await until(both_allow, "an attestor does not let a signed image in")
    for image_name in (good, bad):
        answers = [pair.call(at, "admit?project=demo", review(image_name))["response"] for at in (one, other)]
        assert answers[0] == answers[1]
        assert answers[0]["allowed"] is (image_name == good)


def review(image: str) -> dict[str, Any]:
    """What Kubernetes asks about a pod."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"image": image}]}}
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    asked = {"uid": "u", "kind": kind, "operation": "CREATE", "namespace": "default", "object": pod}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}


async def test_both_audit_logs_list_every_change_once_and_in_one_order(pair: Pair) -> None:
    async with pair.registries() as both:
        for number in range(30):
            await push_blob(both[number % 2], "demo/audited/app", os.urandom(100))

    def listed(address: str) -> list[str]:
        words = {"resourceNames": ["projects/demo"], "filter": 'protoPayload.resourceName:"audited"', "pageSize": 1000}
        found = pair.call(address, "v2/entries:list", {**words, "orderBy": "timestamp asc"})
        return [entry["insertId"] for entry in found["entries"]]

    async def both_know() -> bool:
        return all(len(listed(address)) >= 31 for address in pair.addresses("audit_log"))

    await until(both_know, "an audit log does not know everything")
    first, second = (listed(address) for address in pair.addresses("audit_log"))
    assert first == second
    assert len(first) == len(set(first)) == 31
    for address in pair.addresses("audit_log"):
        assert pair.call(address, "v1/projects/demo/auditLog:verify", {})["valid"] is True
    assert sum(count > 0 for count in pair.handled("audit_log", "audit.activity")) == 2


async def test_of_two_cleanups_that_find_a_repository_due_one_runs(pair: Pair, tmp_path: Path) -> None:
    hasty = {"ENTREPOT_CLEANUP_INTERVAL_SECONDS": "2", "ENTREPOT_CLEANUP_CHECK_SECONDS": "0.2"}
    cleanups = {name: twin_of(pair.suite, "cleanup", tmp_path / name, hasty) for name in ("hasty-1", "hasty-2")}
    images = [image_with(f"swept-{number}") for number in range(6)]
    async with pair.registries() as (first, _):
        for number, image in enumerate(images):
            await push(first, "demo/swept/app", f"v{number}", image)
    policy = {"id": "all", "action": "DELETE", "condition": {"tagState": "ANY", "olderThan": "0s"}}

    async def ran_twice() -> bool:
        return len(runs()) >= 2

    def runs() -> list[dict[str, Any]]:
        return pair.call(pair.addresses("cleanup")[0], f"v1/{REPOSITORY}/swept/cleanupRuns").get("cleanupRuns", [])

    def set_policies(policies: dict[str, Any]) -> None:
        place = f"v1/{REPOSITORY}/swept?updateMask=cleanupPolicies"
        pair.call(pair.addresses("registry")[0], place, {"cleanupPolicies": policies}, verb="PATCH")

    with started(cleanups):
        set_policies({"all": policy})
        for _ in range(5):
            if await came(ran_twice, 15):
                break
            # One of the other two, which rest for a day, was first: policies that come back begin with a rest anew.
            set_policies({})
            await asyncio.sleep(1)
            set_policies({"all": policy})
        assert await ran_twice(), "cleanup did not run"
    begun = sorted(datetime.fromisoformat(run["started"]).timestamp() for run in runs())
    gaps = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert min(gaps) > 1.5, gaps
    deleted = Counter(event["data"]["digest"] for event in await pair.said("image.deleted"))
    swept = {image.digest for image in images}
    attached = [event["data"] for event in await pair.said("referrer.attached")]
    hung_on_them = {each["digest"] for each in attached if each["subject_digest"] in swept}
    assert set(deleted) >= swept
    assert set(deleted) <= swept | hung_on_them
    assert set(deleted.values()) == {1}


@pytest.mark.skipif(not (shutil.which("crun") or shutil.which("runc", path="/usr/bin:/usr/sbin")), reason="no runtime")
async def test_each_build_is_taken_by_one_builder(pair: Pair) -> None:
    broken = {"steps": [{"name": f"{pair.suite.registry}/demo/nothing/here"}]}
    builders = pair.addresses("builder")
    ids = {
        pair.call(builders[number % 2], "v1/projects/demo/builds", broken)["metadata"]["build"]["id"]
        for number in range(12)
    }

    async def all_ended() -> bool:
        return ids <= {event["data"]["build"] for event in await pair.said("build.finished")}

    await until(all_ended, "builds did not end")
    begun = [event["data"] for event in await pair.said("build.started") if event["data"]["build"] in ids]
    assert Counter(one["build"] for one in begun) == Counter(ids)
    assert {one["worker"] for one in begun} == {"builder/0", "builder/twin"}


async def test_killing_one_replica_of_each_loses_nothing_and_the_others_go_on(pair: Pair) -> None:
    acknowledged: set[str] = set()
    config = descriptor(CONFIG, b"{}")
    numbers = iter(range(10_000))
    ended = asyncio.Event()

    async def work(first: int) -> None:
        """Push until told to end; what one registry does not acknowledge is pushed to the other."""
        async with pair.registries() as both:
            for turn in itertools.count(first):
                if ended.is_set():
                    return
                await push_somewhere(both, turn, manifest_of(config, next(numbers)), acknowledged)

    async with pair.registries() as (connection, _):
        await push_blob(connection, "demo/survivors/app", b"{}")
    pushing = [asyncio.create_task(work(number)) for number in range(4)]
    for twin in pair.twins.values():
        await asyncio.sleep(0.5)
        twin.kill()
    await asyncio.sleep(0.5)
    ended.set()
    await asyncio.gather(*pushing)
    assert len(acknowledged) >= 50

    async def all_handled() -> bool:
        return not acknowledged - await digests(pair, "scan.completed") and not busy(pair.suite)

    await until(all_handled, "something was lost with a replica", 90)
    assert acknowledged == await digests(pair, "image.pushed")
    assert json.loads(pair.suite.entrepot("dead", "list", "--format", "json").stdout or "[]") == []
    for service in SERVICES:
        pair.call(pair.suite.address(service), ASKED[service], token=pair.suite.token())


def manifest_of(config: dict[str, Any], number: int) -> bytes:
    """A manifest unlike all others."""
    told: dict[str, Any] = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": []}
    return orjson.dumps({**told, "annotations": {"number": str(number)}})


async def push_somewhere(both: tuple[Connection, ...], turn: int, content: bytes, acknowledged: set[str]) -> None:
    """PUT a manifest at one registry after the other until one acknowledges it."""
    path = f"/v2/demo/survivors/app/manifests/t{turn % 7}"
    for attempt in range(200):
        connection = both[(turn + attempt) % 2]
        try:
            async with asyncio.timeout(15):
                answer = await connection.call("PUT", path, content, {"Content-Type": MANIFEST})
        except (OSError, EOFError, TimeoutError, IndexError, ValueError):
            connection.drop()
            continue
        if answer.status == 201:
            acknowledged.add(digest_of(content))
            return
        assert answer.status in {429, 503}, answer
    raise AssertionError("neither registry takes a push")


async def digests(pair: Pair, topic: str) -> set[str]:
    """What was said of the images that were pushed while replicas died."""
    found = [event["data"] for event in await pair.said(topic)]
    return {data["digest"] for data in found if data["repository"] == "survivors"}


def busy(suite: Suite) -> dict[str, tuple[int, int]]:
    """Durables that have something left to do."""
    address = f"http://127.0.0.1:{suite.base + 21}/jsz?consumers=true&accounts=true"
    with urllib.request.urlopen(address, timeout=10) as answer:
        found: Any = json.load(answer)
    streams: list[Any] = [stream for account in found["account_details"] for stream in account.get("stream_detail", [])]
    consumers: list[Any] = [consumer for stream in streams for consumer in stream.get("consumer_detail") or list[Any]()]
    return {
        one["name"]: (one["num_pending"], one["num_ack_pending"])
        for one in consumers
        if one["num_pending"] or one["num_ack_pending"]
    }
