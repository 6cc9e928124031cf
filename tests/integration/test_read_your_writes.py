"""Two replicas on one Valkey: what one has answered the other shows, whatever was changed; and rules hold in races.

Changes are drawn at random, from a seed, and made through either replica. A model of a few lines says how each must be
answered and what is there afterwards; all of it is then asked of the other replica.
"""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import orjson
import pytest

from tests.support.images import digest_of
from tests.support.registry import INDEX, NAME, artifact, index_of
from tests.support.replicas import Replica, pair
from tests.support.servers import Server, valkey

__all__ = ["valkey"]

REPOSITORY = "/v1/projects/demo/locations/local/repositories/web"
MANIFESTS = f"/v2/{NAME}/manifests"
TAGS = ("v1", "v2", "latest")
PLAIN = [artifact(kind=f"application/vnd.test.{number}") for number in range(3)]
SIGNATURE = artifact(PLAIN[2])
MULTI = index_of(PLAIN[0], PLAIN[1])
OUTER = index_of(MULTI, PLAIN[2])
GOODS = {digest_of(each): each for each in (*PLAIN, SIGNATURE, MULTI, OUTER)}
CHILDREN = {digest_of(MULTI): PLAIN[:2], digest_of(OUTER): [MULTI, PLAIN[2]]}
SUBJECT = digest_of(PLAIN[2])


@dataclass
class Model:
    """What must be there."""

    versions: set[str] = field(default_factory=set[str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    immutable: bool = False

    def children(self, digest: str) -> list[str]:
        return [digest_of(child) for child in CHILDREN.get(digest, ())]

    def held(self, digest: str) -> bool:
        return any(digest in self.children(parent) for parent in self.versions)

    def tagged(self, digest: str) -> bool:
        return digest in self.tags.values()

    def push(self, digest: str, tag: str) -> int:
        if not set(self.children(digest)) <= self.versions:
            return 404
        if self.immutable and self.tags.get(tag, digest) != digest:
            return 409
        self.versions.add(digest)
        if tag:
            self.tags[tag] = digest
        return 201

    def untag(self, tag: str) -> int:
        if tag not in self.tags:
            return 404
        if self.immutable:
            return 403
        del self.tags[tag]
        return 202

    def delete(self, digest: str, *, cascade: bool) -> int:
        if digest not in self.versions:
            return 404
        if self.held(digest) or (self.immutable and self.tagged(digest)):
            return 403
        self.versions.remove(digest)
        self.tags = {tag: at for tag, at in self.tags.items() if at != digest}
        if cascade:
            self._follow(digest)
        return 202

    def _follow(self, digest: str) -> None:
        referrers = [digest_of(SIGNATURE)] if digest == SUBJECT else []
        for each in (*self.children(digest), *referrers):
            subject_is_there = each == digest_of(SIGNATURE) and SUBJECT in self.versions
            if each in self.versions and not (self.held(each) or self.tagged(each) or subject_is_there):
                self.versions.remove(each)
                self._follow(each)


async def change(chance: random.Random, model: Model, at: Replica) -> str:
    """One change through a replica, answered as the model says."""
    oci, digest, tag = at.client, chance.choice(list(GOODS)), chance.choice(TAGS)
    deed = chance.choices(
        ["push", "push digest", "untag", "delete", "cascade", "rule", "all"], [8, 3, 2, 2, 2, 2, 0.3]
    )[0]
    match deed:
        case "push" | "push digest":
            wanted = model.push(digest, tag if deed == "push" else "")
            reference, kind = tag if deed == "push" else digest, INDEX if digest in CHILDREN else ""
            content = GOODS[digest]
            answer = await (oci.manifest(content, reference, kind=kind) if kind else oci.manifest(content, reference))
        case "untag":
            wanted, answer = model.untag(tag), await oci.call("DELETE", f"{MANIFESTS}/{tag}")
        case "delete" | "cascade":
            cascade = deed == "cascade"
            wanted = model.delete(digest, cascade=cascade)
            answer = await oci.call("DELETE", f"{MANIFESTS}/{digest}{'?cascade=all' if cascade else ''}")
        case "rule":
            wanted, model.immutable = 200, not model.immutable
            answer = await oci.call("PATCH", REPOSITORY, rule(on=model.immutable))
        case _:
            wanted, answer = 200, await oci.call("DELETE", REPOSITORY)
            model.versions, model.tags, model.immutable = set(), {}, False
            await oci.blob(b"{}")
    assert answer.status == wanted, (deed, digest, tag, answer)
    return f"{deed} {tag} {digest[:12]}"


def rule(*, on: bool) -> bytes:
    return orjson.dumps({"dockerConfig": {"immutableTags": on}})


async def shows(at: Replica, model: Model) -> None:
    """All that there is, as a replica answers."""
    oci = at.client
    for digest in GOODS:
        assert (await oci.call("GET", f"{MANIFESTS}/{digest}")).status == (200 if digest in model.versions else 404)
    for tag in TAGS:
        for verb in ("HEAD", "GET"):
            answer = await oci.call(verb, f"{MANIFESTS}/{tag}")
            assert answer.headers.get("Docker-Content-Digest") == model.tags.get(tag), (verb, tag)
    listed = await oci.call("GET", f"/v2/{NAME}/tags/list")
    assert (listed.json["tags"] if listed.status == 200 else None) == (sorted(model.tags) if model.versions else None)
    referrers = (await oci.call("GET", f"/v2/{NAME}/referrers/{SUBJECT}")).json["manifests"]
    assert [each["digest"] for each in referrers] == [each for each in [digest_of(SIGNATURE)] if each in model.versions]
    repository = (await oci.call("GET", REPOSITORY)).json
    assert "dockerConfig" in repository if model.immutable else "dockerConfig" not in repository


@pytest.mark.parametrize("seed", range(6))
async def test_what_one_replica_answered_the_other_shows(valkey: Server, seed: int) -> None:
    chance, model, done = random.Random(seed), Model(), list[str]()  # noqa: S311 - drawn again by the same seed
    async with pair(valkey) as (first, second):
        await first.client.call("DELETE", REPOSITORY)
        await first.client.blob(b"{}")
        for _ in range(40):
            writer, reader = chance.choice([(first, second), (second, first)])
            done.append(await change(chance, model, writer))
            try:
                await shows(reader, model)
            except AssertionError as error:
                raise AssertionError(f"after {done[-5:]}: {model}") from error


async def prepared(first: Replica, *, immutable: bool) -> list[bytes]:
    """An empty repository, and manifests to push to it."""
    await first.client.call("DELETE", REPOSITORY)
    await first.client.blob(b"{}")
    assert (await first.client.call("PATCH", REPOSITORY, rule(on=immutable))).status == 200
    return [artifact(kind=f"application/vnd.test.{number}") for number in range(50)]


async def test_of_fifty_racing_pushers_at_two_replicas_one_gets_the_immutable_tag(valkey: Server) -> None:
    async with pair(valkey) as both:
        manifests = await prepared(both[0], immutable=True)
        for tag in ("v1", "v2", "v3"):
            answers = await asyncio.gather(
                *(both[number % 2].client.manifest(each, tag) for number, each in enumerate(manifests))
            )
            assert Counter(answer.status for answer in answers) == {201: 1, 409: 49}
            [winner] = [each for each, answer in zip(manifests, answers, strict=True) if answer.status == 201]
            for at in both:
                found = await at.client.call("HEAD", f"{MANIFESTS}/{tag}")
                assert found.headers["Docker-Content-Digest"] == digest_of(winner)


async def test_tags_stay_where_they_were_when_the_rule_was_acknowledged_at_the_other_replica(valkey: Server) -> None:
    async with pair(valkey) as (first, second):
        one, two, *_ = await prepared(first, immutable=False)
        tags = [f"t{number}" for number in range(40)]
        for turn in range(6):
            await asyncio.gather(*(first.client.manifest(one, tag) for tag in tags))
            pushes = [asyncio.create_task(second.client.manifest(two, tag)) for tag in tags]
            await asyncio.sleep(0.02 + 0.015 * turn)
            assert (await first.client.call("PATCH", REPOSITORY, rule(on=True))).status == 200
            fixed = await pointed(first, tags)
            answers = await asyncio.gather(*pushes)
            assert {answer.status for answer in answers} <= {201, 409}
            assert await pointed(first, tags) == fixed
            assert (await second.client.call("PATCH", REPOSITORY, rule(on=False))).status == 200


async def pointed(at: Replica, tags: list[str]) -> list[str]:
    answers = await asyncio.gather(*(at.client.call("HEAD", f"{MANIFESTS}/{tag}") for tag in tags))
    return [answer.headers["Docker-Content-Digest"] for answer in answers]


async def test_a_child_or_blob_that_a_racing_push_refers_to_does_not_vanish(valkey: Server) -> None:
    """Whoever is told 201 has an index whose children are there, and a manifest whose blob is there."""
    async with pair(valkey) as (first, second):
        await prepared(first, immutable=False)
        for _ in range(12):
            for each in (*PLAIN[:2], MULTI):
                await first.client.manifest(each, kind=INDEX) if each is MULTI else await first.client.manifest(each)
            other = index_of(PLAIN[1], PLAIN[0])
            _, taken = await asyncio.gather(
                second.client.call("DELETE", f"{MANIFESTS}/{digest_of(MULTI)}?cascade=all"),
                first.client.manifest(other, kind=INDEX),
            )
            there = [(await first.client.call("HEAD", f"{MANIFESTS}/{digest_of(each)}")).status for each in PLAIN[:2]]
            assert taken.status in {201, 404}
            assert taken.status == 404 or there == [200, 200]
            await first.client.call("DELETE", f"{MANIFESTS}/{digest_of(other)}?cascade=all")
            blob = digest_of(b"{}")
            dropped, taken = await asyncio.gather(
                second.client.call("DELETE", f"/v2/{NAME}/blobs/{blob}"), first.client.manifest(PLAIN[0])
            )
            held = (await second.client.call("HEAD", f"/v2/{NAME}/blobs/{blob}")).status
            assert (dropped.status, taken.status, held) in {(202, 404, 404), (403, 201, 200)}
            await first.client.call("DELETE", f"{MANIFESTS}/{digest_of(PLAIN[0])}")
            await first.client.blob(b"{}")


async def test_a_rule_for_downloads_counts_at_the_other_replica_as_soon_as_it_is_acknowledged(valkey: Server) -> None:
    """Whatever the other has at hand: both have handed out the manifest in the short way before."""
    rules, body = f"{REPOSITORY}/rules", orjson.dumps({"action": "DENY"})
    async with pair(valkey) as (first, second):
        manifests = await prepared(first, immutable=False)
        await first.client.manifest(manifests[0], "v1")
        for turn in range(20):
            one, other = (first, second) if turn % 2 else (second, first)
            reference = "v1" if turn % 4 < 2 else digest_of(manifests[0])
            for _ in range(3):
                assert (await other.client.call("GET", f"{MANIFESTS}/{reference}")).status == 200
            assert (await one.client.call("POST", f"{rules}?ruleId=all", body)).status == 200
            answers = await asyncio.gather(*(other.client.call("GET", f"{MANIFESTS}/{reference}") for _ in range(5)))
            assert {answer.status for answer in answers} == {403}
            assert (await other.client.call("HEAD", f"{MANIFESTS}/{reference}")).status == 200
            assert (await one.client.call("DELETE", f"{rules}/all")).status == 200
