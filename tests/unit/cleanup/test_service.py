"""Cleanup as a whole, on memory parts: events in, HTTP in, plans and jobs out."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from services.cleanup.app import build
from shared.cleanup_policies import fingerprint
from shared.clock import rfc3339
from shared.events import Event
from shared.events.attestations import AdmissionDecided
from shared.events.images import (
    ImageDeleted,
    ImagePulled,
    ImagePushed,
    ImageUntagged,
    ReferrerAttached,
    RepositoryState,
)
from shared.names import manifest_object
from tests.support.clock import EPOCH
from tests.support.events import said
from tests.support.parts import Client, MemoryParts, bearer, client_of, json_of, memory_parts

ADMIN, READER = "user:admin@x.example", "user:reader@x.example"
AT = {"project": "demo", "location": "local", "repository": "web"}
WEB = "/v1/projects/demo/locations/local/repositories/web"
DAY = 86_400.0
POLICIES = {
    "old": {"action": "DELETE", "condition": {"olderThan": "30d"}},
    "newest": {"action": "KEEP", "mostRecentVersions": {"keepCount": 1}},
}


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


@dataclass
class House:
    """Cleanup with everything around it."""

    memory: MemoryParts
    client: Client
    said: int = 0

    async def hear(self, *events: Event, generation: int = 0) -> None:
        """Say events and wait until they were handled."""
        messages = []
        for event in events:
            self.said += 1
            now = rfc3339(self.memory.clock.now())
            messages.append(said(event, cause=f"cause-{self.said}", generation=generation or self.said, time=now))
        await self.memory.parts.bus.publisher.publish(messages)
        for _ in range(20):
            await asyncio.sleep(0.003)
            await self.memory.clock.advance(0.01)

    async def call(self, verb: str, path: str, body: object = None, member: str = ADMIN) -> tuple[int, Any]:
        response = await self.client.request(verb, path, json=body, headers=bearer(member))
        return response.status, await json_of(response)

    async def plan(self, policies: object = None) -> tuple[list[str], list[str]]:
        body = {} if policies is None else {"cleanupPolicies": policies}
        status, found = await self.call("POST", f"{WEB}:planCleanup", body, READER)
        assert status == 200, found
        return [one["digest"][-1] for one in found["delete"]], [one["digest"][-1] for one in found["keep"]]


@pytest.fixture
async def house() -> AsyncGenerator[House]:
    memory = memory_parts("cleanup", environment={"ENTREPOT_CLEANUP_INTERVAL_SECONDS": "3600"})
    memory.grant("projects/demo", ADMIN, "artifactregistry.versions.list", "artifactregistry.versions.delete")
    memory.grant("projects/demo", READER, "artifactregistry.versions.list")
    service = build(memory.parts)
    async with client_of(service, memory.parts) as client:
        loops = [asyncio.create_task(loop()) for loop in service.background]
        found = House(memory, client)
        await found.hear(RepositoryState(**AT))
        yield found
        for loop in loops:
            loop.cancel()


def pushed(letter: str, days: float, tag: str = "", **more: Any) -> ImagePushed:
    content = {"image": "app", "digest": digest(letter), "tag": tag, "media_type": "m", "size": 5, **more}
    return ImagePushed(**AT, uploaded=rfc3339(EPOCH - days * DAY), **content)


def attached(letter: str, to: str) -> ReferrerAttached:
    return ReferrerAttached(
        **AT, image="app", digest=digest(letter), subject_digest=digest(to), artifact_type="a", size=2
    )


def admitted(*running: str) -> AdmissionDecided:
    return AdmissionDecided(
        project="demo", uid="1", cluster="c1", namespace="shop", allowed=True, running=running, images=running
    )


async def test_the_plan_names_what_is_old_and_keeps_the_newest(house: House) -> None:
    await house.hear(pushed("a", 50, "v1"), pushed("b", 40, "v2"), pushed("c", 31, "v3"))
    assert await house.plan(POLICIES) == (["a", "b"], ["c"])
    assert house.memory.announced() == []
    _, found = await house.call("POST", f"{WEB}:planCleanup", {"cleanupPolicies": POLICIES})
    assert found["sizeBytes"] == "10"
    assert found["delete"][0]["tags"] == ["v1"]
    assert found["delete"][0]["reason"] == "policy old"


async def test_tags_move_and_late_events_change_nothing(house: House) -> None:
    await house.hear(pushed("a", 50, "latest"), generation=1)
    await house.hear(pushed("b", 40, "latest", previous_digest=digest("a")), generation=2)
    untagged = {"u": {"action": "DELETE", "condition": {"tagState": "UNTAGGED"}}}
    assert (await house.plan(untagged))[0] == ["a"]
    await house.hear(ImageDeleted(**AT, image="app", digest=digest("a")), generation=5)
    await house.hear(pushed("a", 50, "latest"), generation=1)
    await house.hear(ImageUntagged(**AT, image="app", tag="latest", digest=digest("b")), generation=1)
    assert await house.plan(untagged) == ([], [])
    await house.hear(ImageUntagged(**AT, image="app", tag="latest", digest=digest("b")), generation=6)
    assert (await house.plan(untagged))[0] == ["b"]


@pytest.mark.parametrize("order", ["dpu", "dup", "udp", "upd", "pud", "pdu"])
async def test_a_version_is_as_new_as_what_befell_its_tags_in_whatever_order_that_is_heard(
    house: House, order: str
) -> None:
    heard = {
        "d": (ImageDeleted(**AT, image="app", digest=digest("a")), 3),
        "p": (pushed("a", 50, "v1"), 5),
        "u": (ImageUntagged(**AT, image="app", tag="v1", digest=digest("a")), 7),
    }
    for event, generation in (*map(heard.__getitem__, order), (pushed("a", 90, "v0"), 1)):
        await house.hear(event, generation=generation)
    untagged = {"u": {"action": "DELETE", "condition": {"tagState": "UNTAGGED", "olderThan": "60d"}}}
    assert await house.plan(untagged) == ([], [])  # it goes by its present life, not by the one that was over at 3
    status, _ = await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": {"old": POLICIES["old"]}})
    assert status == 200
    (doomed,) = house.memory.announced("cleanup.requested")[0].data["versions"]
    assert (doomed["digest"], doomed["generation"]) == (digest("a"), 7)


async def test_a_run_asks_the_registry_with_the_generations_it_knows(house: House) -> None:
    await house.hear(pushed("a", 50, "v1"), generation=4)
    await house.hear(pushed("b", 40, "v1", previous_digest=digest("a")), generation=7)
    status, run = await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": POLICIES})
    assert (status, run["state"], run["count"]) == (200, "RUNNING", 1)
    (job,) = house.memory.announced("cleanup.requested")
    assert job.subject == "cleanup.requested.registry.demo.local.web"
    (doomed,) = job.data["versions"]
    assert (doomed["digest"], doomed["generation"]) == (digest("a"), 7)
    (planned,) = house.memory.announced("cleanup.planned")
    plan = orjson.loads(await house.memory.parts.blobs.content(planned.data["object"]))
    assert [one["digest"] for one in plan["delete"]] == [digest("a")]
    assert [entry["protoPayload"]["methodName"] for entry in house.memory.audited()] == [
        "entrepot.cleanup.v1.RunCleanup"
    ]
    await house.memory.clock.advance(6)
    assert house.memory.announced("cleanup.completed") == []
    await house.hear(ImageDeleted(**AT, image="app", digest=digest("a")), generation=8)
    await house.memory.clock.advance(6)
    (completed,) = house.memory.announced("cleanup.completed")
    assert (completed.data["requested"], completed.data["deleted"]) == (1, 1)
    assert (await house.call("GET", f"{WEB}/cleanupRuns/{run['id']}"))[1]["state"] == "DONE"


async def test_what_the_owner_keeps_is_told_after_a_while(house: House) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40))
    _, run = await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": POLICIES})
    await house.memory.clock.advance(901)
    _, run = await house.call("GET", f"{WEB}/cleanupRuns/{run['id']}")
    assert (run["state"], run["spared"]) == ("DONE", 1)


async def test_a_run_whose_plan_is_gone_ends_with_the_reason_and_hinders_no_other(house: House) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40))
    _, lost = await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": POLICIES})
    await house.memory.parts.blobs.delete(lost["planObject"])
    await house.memory.clock.advance(6)
    _, lost = await house.call("GET", f"{WEB}/cleanupRuns/{lost['id']}")
    assert (lost["state"], "plan is gone" in lost["reason"]) == ("DONE", True)
    assert "deleted" not in lost
    _, run = await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": POLICIES})
    await house.memory.clock.advance(901)
    _, run = await house.call("GET", f"{WEB}/cleanupRuns/{run['id']}")
    assert (run["state"], run["spared"]) == ("DONE", 1)


async def test_a_dry_run_is_written_down_and_asks_for_nothing(house: House) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40))
    _, run = await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": POLICIES, "dryRun": True})
    assert (run["state"], run["count"]) == ("PLANNED", 1)
    assert house.memory.announced("cleanup.requested") == []
    assert house.memory.announced("cleanup.planned")[0].data["dry_run"] is True
    assert [one["id"] for one in (await house.call("GET", f"{WEB}/cleanupRuns"))[1]["cleanupRuns"]] == [run["id"]]


async def test_many_versions_are_asked_for_in_jobs_that_fit_into_events(house: House) -> None:
    for start in range(0, 600, 100):
        await house.hear(
            *(
                pushed("x", 50, image=f"image-{'y' * 100}-{number}", tag=f"{'t' * 100}{number}")
                for number in range(start, start + 100)
            )
        )
    old = {"old": POLICIES["old"]}
    _, run = await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": old})
    jobs = house.memory.announced("cleanup.requested")
    assert run["count"] == 600
    assert sum(len(job.data["versions"]) for job in jobs) == 600
    assert len(jobs) > 3


async def test_repositories_are_cleaned_periodically_by_their_own_policies(house: House) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40))
    await house.hear(RepositoryState(**AT, cleanup_policies=POLICIES))
    await house.memory.clock.advance(6)
    assert house.memory.announced("cleanup.planned") == []
    for _ in range(3):
        await house.memory.clock.advance(3601)
    assert [event.data["count"] for event in house.memory.announced("cleanup.planned")] == [1, 1, 1]
    assert len(house.memory.announced("audit.system")) == 3
    assert (await house.plan())[0] == ["a"]


async def test_a_repositorys_dry_run_switch_holds_for_periodic_runs(house: House) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40))
    await house.hear(RepositoryState(**AT, cleanup_policies=POLICIES, cleanup_policy_dry_run=True))
    for _ in range(2):
        await house.memory.clock.advance(3601)
    assert house.memory.announced("cleanup.planned")
    assert house.memory.announced("cleanup.requested") == []


@pytest.mark.parametrize(("asked", "state"), [({}, "PLANNED"), ({"dryRun": False}, "RUNNING")])
async def test_a_repositorys_dry_run_switch_holds_for_runs_that_do_not_say_otherwise(
    house: House, asked: dict[str, bool], state: str
) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40))
    await house.hear(RepositoryState(**AT, cleanup_policies=POLICIES, cleanup_policy_dry_run=True))
    _, run = await house.call("POST", f"{WEB}:runCleanup", asked)
    assert run["state"] == state
    assert bool(house.memory.announced("cleanup.requested")) == (state == "RUNNING")


async def test_what_is_asked_for_counts_only_while_the_repositorys_policies_are_the_same(house: House) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40))
    await house.hear(RepositoryState(**AT, cleanup_policies=POLICIES))
    await house.call("POST", f"{WEB}:runCleanup", {})
    await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": {"old": POLICIES["old"]}})
    await house.memory.clock.advance(3601)
    await house.memory.clock.advance(3601)
    bound = [job.data.get("policies", "") for job in house.memory.announced("cleanup.requested")]
    assert bound == [known := fingerprint(POLICIES, dry_run=False), "", known]


@pytest.mark.parametrize(
    ("settings", "gone"),
    [({"immutable_tags": True}, ["b"]), ({"labels": {"entrepot-tag-deletion": "cleanup"}}, ["a", "b"])],
)
async def test_what_a_rule_for_tags_keeps_is_not_asked_for(
    house: House, settings: dict[str, Any], gone: list[str]
) -> None:
    await house.hear(pushed("a", 50, "v1"), pushed("b", 40), pushed("c", 31), RepositoryState(**AT, **settings))
    assert (await house.plan(POLICIES))[0] == gone


async def test_the_last_pull_is_known_to_the_minute_and_written_no_more_often(house: House) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40))
    state = house.memory.parts.state
    apply, steps = state.apply, 0

    async def counting(step: Any) -> Any:
        nonlocal steps
        steps += any("pulled" in str(write) for write in step.writes)
        return await apply(step)

    state.apply = counting  # type: ignore[method-assign]
    for time in ("10:00:01", "10:00:07", "10:00:59", "10:01:00", "09:59:59", ""):
        last = f"2026-01-01T{time}.000000Z" if time else ""
        await house.hear(ImagePulled(**AT, image="app", digest=digest("a"), count=1, last_pulled=last))
    assert steps == 2
    _, found = await house.call("POST", f"{WEB}:planCleanup", {"cleanupPolicies": {"old": POLICIES["old"]}})
    assert [one.get("pullTime", "") for one in found["delete"]] == ["2026-01-01T10:01:00.000000Z", ""]


async def test_what_was_admitted_lately_stays_and_pulls_are_remembered(house: House) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40), pushed("c", 31))
    await house.hear(ImagePulled(**AT, image="app", digest=digest("b"), count=1, last_pulled="2026-01-01"))
    await house.hear(admitted(f"demo/local/web/app@{digest('a')}", "BAD", "demo/local/web/app"))
    assert await house.plan(POLICIES) == (["b"], ["a", "c"])
    await house.memory.clock.advance(31 * DAY)
    assert await house.plan(POLICIES) == (["a", "b"], ["c"])


@pytest.mark.parametrize(
    "running",
    [
        f"other/local/web/app@{digest('a')}",
        f"demo/elsewhere/web/app@{digest('a')}",
        f"demo/local/old/app@{digest('a')}",
        f"demo/local/web/worker@{digest('a')}",
    ],
)
async def test_what_runs_is_kept_where_it_lies_and_nowhere_else(house: House, running: str) -> None:
    await house.hear(pushed("a", 50), pushed("b", 40), admitted(running))
    assert await house.plan(POLICIES) == (["a"], ["b"])


async def test_an_image_that_was_let_in_by_name_only_is_not_taken_for_ours(house: House) -> None:
    foreign = AdmissionDecided(project="demo", uid="1", allowed=True, images=(f"docker.io/demo/web/app@{digest('a')}",))
    await house.hear(pushed("a", 50), pushed("b", 40), foreign)
    assert await house.plan(POLICIES) == (["a"], ["b"])


async def test_what_was_attached_stays_with_its_subject_and_goes_with_it(house: House) -> None:
    untagged = {"u": {"action": "DELETE", "condition": {"tagState": "UNTAGGED"}}}
    await house.hear(pushed("a", 50, "v1"), attached("b", to="a"))
    assert await house.plan(untagged) == ([], ["b"])
    await house.hear(ImageUntagged(**AT, image="app", tag="v1", digest=digest("a")))
    assert await house.plan(untagged) == (["a", "b"], [])
    _, run = await house.call("POST", f"{WEB}:runCleanup", {"cleanupPolicies": untagged})
    assert (run["count"], run["sizeBytes"]) == (2, 7)


@pytest.mark.parametrize("order", ["asd", "ads", "sad", "sda", "das", "dsa"])
async def test_what_was_attached_to_something_that_is_gone_goes_by_any_deletion_in_its_package(
    house: House, order: str
) -> None:
    heard = {
        "a": (attached("b", to="a"), 2),
        "s": (pushed("a", 5, "v1"), 1),
        "d": (ImageDeleted(**AT, image="app", digest=digest("a"), tags=("v1",)), 3),
    }
    for event, generation in map(heard.__getitem__, order):
        await house.hear(event, generation=generation)
    assert await house.plan(POLICIES) == (["b"], [])
    elsewhere = {"old": {"action": "DELETE", "condition": {"packageNamePrefixes": ["worker"]}}}
    assert await house.plan(elsewhere) == ([], [])
    kept = {**POLICIES, "all": {"action": "KEEP", "condition": {"tagState": "UNTAGGED"}}}
    assert await house.plan(kept) == ([], ["b"])


async def test_what_was_attached_and_is_deleted_stays_gone(house: House) -> None:
    await house.hear(ImageDeleted(**AT, image="app", digest=digest("b")), generation=5)
    await house.hear(attached("b", to="a"), generation=2)
    assert await house.plan({"all": {"action": "DELETE", "condition": {}}}) == ([], [])


async def test_an_index_protects_what_it_lists(house: House) -> None:
    media = "application/vnd.oci.image.index.v1+json"
    manifest = {"manifests": [{"digest": digest("a")}, {"digest": digest("b")}]}
    await house.memory.parts.blobs.put(manifest_object("demo", digest("c")), orjson.dumps(manifest))
    await house.hear(pushed("a", 50), pushed("b", 50), pushed("c", 50, "v1", media_type=media), pushed("d", 50))
    untagged = {"u": {"action": "DELETE", "condition": {"tagState": "UNTAGGED"}}}
    assert await house.plan(untagged) == (["d"], ["a", "b"])


async def test_who_may_only_look_cannot_run_and_what_is_not_there_is_not_found(house: House) -> None:
    assert (await house.call("POST", f"{WEB}:runCleanup", {}, READER))[0] == 403
    assert (await house.call("POST", f"{WEB}:runCleanup", {}))[0] == 400
    assert (await house.call("POST", f"{WEB[:-3]}none:planCleanup", {}))[0] == 404
    assert (await house.call("GET", f"{WEB}/cleanupRuns/none"))[0] == 404
    bad = {"cleanupPolicies": {"p": {"action": "DELETE"}}}
    assert (await house.call("POST", f"{WEB}:planCleanup", bad))[0] == 400


async def test_a_policy_that_cannot_be_read_lets_none_count(house: House) -> None:
    broken = {**POLICIES, "new": {"action": "KEEP", "condition": {"bornIn": "May"}}}
    await house.hear(pushed("a", 50), pushed("b", 40), RepositoryState(**AT, cleanup_policies=broken))
    assert (await house.call("POST", f"{WEB}:planCleanup", {}))[0] == 400
    for _ in range(2):
        await house.memory.clock.advance(3601)
    assert house.memory.announced("cleanup.planned") == []
