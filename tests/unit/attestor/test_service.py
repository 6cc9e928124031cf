"""The attestor as a whole, on memory parts: events in, HTTP in, answers and events out."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from services.attestor import shares
from services.attestor.app import build
from services.attestor.facts import Evidence, Signature
from services.attestor.occurrences import occurrence_json
from services.attestor.payloads import simple_signing
from services.attestor.signing import from_seed
from services.attestor.store import Store
from shared.events import Event
from shared.events.attestations import AdmissionDecided
from shared.events.images import ImageDeleted, ImagePushed, ImageUntagged
from shared.events.scans import NO_ADVISORIES, OccurrenceChanged, ScanCompleted
from shared.names import partition_of
from shared.state import DropField, PutField, StateUnavailable, Step
from tests.support.events import said
from tests.support.parts import Client, MemoryParts, bearer, client_of, json_of, memory_parts

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ADMIN, CLUSTER, NOBODY = "user:admin@x.example", "user:cluster@x.example", "user:nobody@x.example"
NAME = "projects/demo/attestors/vulnerability"
REQUIRE = {
    "defaultAdmissionRule": {
        "evaluationMode": "REQUIRE_ATTESTATION",
        "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
        "requireAttestationsBy": [NAME],
    }
}
ALL = [
    *(f"binaryauthorization.attestors.{verb}" for verb in ("create", "get", "list", "update", "delete")),
    "binaryauthorization.attestors.verifyImageAttested",
    *(f"binaryauthorization.attestors.{verb}IamPolicy" for verb in ("get", "set")),
    *(f"binaryauthorization.policy.{verb}" for verb in ("get", "update", "getIamPolicy", "setIamPolicy")),
]
AT = {"project": "demo", "location": "local", "repository": "web", "image": "app"}


@dataclass
class House:
    """The attestor with everything around it."""

    memory: MemoryParts
    client: Client
    said: int = 0

    async def hear(self, event: Event, generation: int = 1) -> None:
        """Say an event and wait until it was handled."""
        self.said += 1
        message = said(event, cause=f"cause-{self.said}", generation=generation)
        await self.memory.parts.bus.publisher.publish([message])
        for _ in range(40):
            await asyncio.sleep(0.005)
            await self.memory.clock.advance(0.2)

    async def call(self, verb: str, path: str, body: object = None, member: str = ADMIN) -> tuple[int, Any]:
        headers = bearer(member) if member else {}
        response = await self.client.request(verb, path, json=body, headers=headers)
        return response.status, await json_of(response)

    async def admit(self, *images: str, path: str = "/admit?timeout=10s", **more: Any) -> dict[str, Any]:
        pod = {"metadata": more.pop("metadata", {}), "spec": {"containers": [{"image": image} for image in images]}}
        request = {"uid": "u1", "kind": {"kind": "Pod", "version": "v1"}, "operation": "CREATE", "namespace": "shop"}
        review = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {**request, "object": pod, **more},
        }
        status, body = await self.call("POST", path, review, CLUSTER)
        assert status == 200, body
        assert body["response"]["uid"] == "u1"
        return body["response"]

    async def require(self, threshold: str = "MEDIUM") -> None:
        limits = {"maximumFixableSeverity": threshold, "maximumUnfixableSeverity": threshold}
        status, body = await self.call(
            "POST", "/v1/projects/demo/attestors?attestorId=vulnerability", {"autoAttest": limits}
        )
        assert status == 200, body
        status, body = await self.call("PUT", "/v1/projects/demo/policy", REQUIRE)
        assert status == 200, body

    def decisions(self) -> list[AdmissionDecided]:
        return [event for event in self.memory.journal.events if isinstance(event, AdmissionDecided)]


@pytest.fixture
async def house() -> AsyncGenerator[House]:
    memory = memory_parts("attestor", projects=("demo", "other"))
    memory.grant("projects/demo", ADMIN, *ALL)
    memory.grant("projects/demo", CLUSTER, "binaryauthorization.policy.evaluatePolicy")
    service = build(memory.parts)
    async with client_of(service, memory.parts) as client:
        loops = [asyncio.create_task(loop()) for loop in service.background]
        yield House(memory, client)
        for loop in loops:
            loop.cancel()


def pushed(digest: str = A, tag: str = "v1", **more: Any) -> ImagePushed:
    return ImagePushed(**{**AT, "digest": digest, "tag": tag, "media_type": "m", "size": 1, "uploaded": "now", **more})


def scanned(
    digest: str = A, counts: dict[str, int] | None = None, when: str = "2026-01-01T00:00:00Z", advisories: str = "s1"
) -> ScanCompleted:
    counts = counts or {}
    return ScanCompleted(
        **AT,
        digest=digest,
        advisories=advisories,
        counts=counts,
        fixable=counts,
        highest_cvss=9.8 if counts else 0,
        scanned=when,
    )


IMAGE = "localhost:5000/demo/web/app"


async def test_an_image_that_was_held_against_no_advisories_is_not_clean(house: House) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned(advisories=NO_ADVISORIES))
    assert house.memory.announced("attestation.created") == []


async def test_a_clean_image_is_attested_pinned_and_let_in(house: House) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned())
    created = house.memory.announced("attestation.created")
    referrers = house.memory.announced("referrer.requested")
    assert [event.data["digest"] for event in created] == [A]
    assert [event.data["subject_digest"] for event in referrers] == [A]
    stored = await house.memory.parts.blobs.content(created[0].data["object"])
    occurrence = orjson.loads(stored)
    assert occurrence["resourceUri"] == f"https://{IMAGE}@{A}"
    response = await house.admit(f"{IMAGE}:v1")
    assert response["allowed"] is True
    patch = orjson.loads(base64.b64decode(response["patch"]))
    assert patch == [{"op": "replace", "path": "/spec/containers/0/image", "value": f"{IMAGE}@{A}"}]
    (decision,) = house.decisions()
    assert decision.allowed
    assert decision.images == (f"{IMAGE}@{A}",)
    validation = {
        "attestation": occurrence["attestation"],
        "occurrenceNote": occurrence["noteName"],
        "occurrenceResourceUri": occurrence["resourceUri"],
    }
    status, body = await house.call("POST", f"/v1/{NAME}:validateAttestationOccurrence", validation)
    assert (status, body) == (200, {"result": "VERIFIED"})


async def test_an_image_with_findings_is_refused_with_all_reasons(house: House) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned(counts={"CRITICAL": 2, "LOW": 1}))
    response = await house.admit(f"{IMAGE}:v1")
    assert response["allowed"] is False
    message = response["status"]["message"]
    for part in (NAME, "2 CRITICAL (2 fixable)", "1 LOW", "highest CVSS 9.8", A):
        assert part in message
    assert house.memory.announced("attestation.created") == []
    assert house.decisions()[0].reasons == (message,)


async def test_the_order_of_push_and_scan_does_not_matter_and_nothing_is_said_twice(house: House) -> None:
    await house.require()
    await house.hear(scanned())
    assert house.memory.announced("attestation.created") == []
    await house.hear(pushed())
    await house.hear(scanned(when="2026-01-02T00:00:00Z"))
    await house.hear(pushed(), generation=2)
    assert len(house.memory.announced("attestation.created")) == 1
    assert len(house.memory.announced("audit.system")) == 1


async def test_of_two_scans_the_later_one_counts_whatever_their_clocks_said_and_whenever_it_is_heard(
    house: House,
) -> None:
    await house.hear(pushed())
    await house.hear(scanned(counts={"CRITICAL": 1}, when="2026-01-01T00:00:00Z"), generation=8)
    await house.hear(scanned(when="2026-01-01T02:00:00Z"), generation=7)
    await house.require()
    response = await house.admit(f"{IMAGE}:v1")
    assert response["allowed"] is False
    assert "1 CRITICAL" in response["status"]["message"]


async def test_what_was_scanned_before_there_was_a_threshold_is_attested_when_there_is_one(house: House) -> None:
    await house.hear(pushed())
    await house.hear(scanned())
    await house.hear(pushed(B, tag="v2"))
    await house.hear(scanned(B, counts={"HIGH": 1}))
    await house.require()
    await house.memory.clock.advance(6)
    assert [event.data["digest"] for event in house.memory.announced("attestation.created")] == [A]
    _, attestor = await house.call("GET", f"/v1/{NAME}")
    attestor["autoAttest"]["maximumFixableSeverity"] = "HIGH"
    assert (await house.call("PUT", f"/v1/{NAME}", attestor))[0] == 200
    await house.memory.clock.advance(6)
    assert [event.data["digest"] for event in house.memory.announced("attestation.created")] == [A, B]


LIVES = [
    (pushed(), 1),
    (scanned(), 1),
    (ImageDeleted(**AT, digest=A, tags=("v1",)), 5),
    (pushed(), 7),
]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2), (0, 3, 2, 1), (3, 1, 2, 0), (2, 3, 1, 0)])
async def test_an_image_that_was_deleted_and_is_pushed_again_is_attested_again(
    house: House, order: tuple[int, ...]
) -> None:
    await house.require()
    for number in order:
        await house.hear(*LIVES[number])
    created = house.memory.announced("attestation.created")
    assert (await house.admit(f"{IMAGE}@{A}"))["allowed"] is True
    await house.hear(pushed(), generation=9)
    assert len(house.memory.announced("attestation.created")) == len(created)
    assert len({event.id for event in created}) == len({event.data["object"] for event in created}) == len(created)
    assert len(house.memory.announced("referrer.requested")) == len(created)
    last = orjson.loads(await house.memory.parts.blobs.content(created[-1].data["object"]))
    assert last["resourceUri"] == f"https://{IMAGE}@{A}"
    # What the first life was signed for is only said where that life was seen alive.
    assert len(created) == (2 if order.index(2) > order.index(1) else 1)


async def test_what_was_attested_before_a_deletion_does_not_count_after_it(house: House) -> None:
    await house.require()
    for event, generation in LIVES[:3]:
        await house.hear(event, generation)
    await house.hear(scanned(counts={"CRITICAL": 1}, when="2026-01-02T00:00:00Z"), generation=2)
    await house.hear(*LIVES[3])
    refused = await house.admit(f"{IMAGE}@{A}")
    assert refused["allowed"] is False
    assert "no attestation by" in refused["status"]["message"]


async def test_an_attestation_goes_on_to_count_while_another_image_holds_the_digest(house: House) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned())
    await house.hear(pushed(image="worker"))
    assert len(house.memory.announced("attestation.created")) == 1
    await house.hear(scanned(counts={"CRITICAL": 1}, when="2026-01-02T00:00:00Z"), generation=2)
    await house.hear(ImageDeleted(**AT, digest=A, tags=("v1",)), 5)
    assert len(house.memory.announced("attestation.created")) == 1
    assert (await house.admit(f"localhost:5000/demo/web/worker@{A}"))["allowed"] is True


async def test_the_image_that_goes_on_to_hold_a_digest_is_attested_in_its_turn(house: House) -> None:
    await house.require()
    for event in (pushed(), scanned(), pushed(image="worker")):
        await house.hear(event)
    await house.hear(ImageDeleted(**AT, digest=A, tags=("v1",)), 5)
    created = house.memory.announced("attestation.created")
    assert [event.data["image"] for event in created] == ["app", "worker"]


async def test_a_digest_is_attested_once_in_each_location_that_has_it(house: House) -> None:
    await house.require()
    for event in (pushed(), scanned(), pushed(location="west"), pushed(location="west", image="worker"), pushed()):
        await house.hear(event)
    created, asked = house.memory.announced("attestation.created"), house.memory.announced("referrer.requested")
    for events in (created, asked):
        assert [(event.data["location"], event.data["image"]) for event in events] == [
            ("local", "app"),
            ("west", "app"),
        ]
    assert len({event.data["object"] for event in created}) == 2
    await house.hear(ImageDeleted(**{**AT, "location": "west"}, digest=A), 5)
    created = house.memory.announced("attestation.created")[2:]
    assert [(event.data["location"], event.data["image"]) for event in created] == [("west", "worker")]


async def test_what_was_attested_before_each_location_had_its_own_is_not_attested_again(house: House) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned())
    state, key = house.memory.parts.state, house.memory.parts.keys.of("demo", "version", A)
    [field] = [name for name in await state.record(key) if name.startswith("evidence ")]
    kept = (await state.record(key))[field]
    writes = (DropField(key, field), PutField(key, field.removesuffix(" local"), kept))
    await state.apply(Step(partition_of("demo"), "as it was", writes=writes))
    await house.hear(pushed())
    assert len(house.memory.announced("attestation.created")) == 1
    await house.hear(pushed(location="west"))
    assert [event.data["location"] for event in house.memory.announced("attestation.created")] == ["local", "west"]


async def test_an_attestation_that_broke_off_after_its_objects_were_written_is_said_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.require()
    for event, generation in LIVES[:3]:
        await house.hear(event, generation)
    apply, broken = house.memory.parts.state.apply, 0

    async def dying(step: Step) -> Any:
        nonlocal broken
        if step.request.startswith("attest ") and broken < 2:
            broken += 1
            if broken == 2:  # it was made, and only its answer was lost
                await apply(step)
            raise StateUnavailable
        return await apply(step)

    monkeypatch.setattr(house.memory.parts.state, "apply", dying)
    await house.hear(*LIVES[3])
    for _ in range(4):
        await house.memory.clock.advance(60)
        await asyncio.sleep(0.05)
    assert broken == 2
    created = house.memory.announced("attestation.created")
    assert [event.data["digest"] for event in created] == [A, A]
    assert len(house.memory.announced("referrer.requested")) == len(house.memory.announced("audit.system")) == 2
    assert (await house.admit(f"{IMAGE}@{A}"))["allowed"] is True


async def test_a_workload_that_is_not_in_its_request_is_refused_whatever_the_policy(house: House) -> None:
    response = await house.admit("nginx", object=None)
    assert (response["allowed"], response["status"]["code"]) == (False, 422)


async def test_a_decision_names_what_runs_here_and_may_be_spoken_for(house: House) -> None:
    await house.hear(pushed())
    await house.hear(pushed(project="other"))
    both = (f"{IMAGE}:v1", f"localhost:5000/other/web/app@{A}", f"docker.io/demo/web/app@{A}")
    await house.admit(*both)
    assert house.decisions()[-1].running == (f"demo/local/web/app@{A}",)
    house.memory.grant("projects/other", CLUSTER, "binaryauthorization.policy.evaluatePolicy")
    await house.admit(*both)
    assert house.decisions()[-1].running == (f"demo/local/web/app@{A}", f"other/local/web/app@{A}")
    await house.require()
    await house.admit(*both)
    assert house.decisions()[-1].running == ()


async def test_referrers_are_not_attested_so_that_there_is_no_loop(house: House) -> None:
    await house.require()
    await house.hear(pushed(subject_digest=B))
    await house.hear(scanned())
    await house.hear(pushed(B, artifact_type="application/spdx+json"))
    await house.hear(scanned(B))
    assert house.memory.announced("attestation.created") == []


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (f"{IMAGE}:unknown", "no such tag"),
        (f"{IMAGE}@{B}", "no such digest"),
        (f"localhost:5000/demo/web/elsewhere@{A}", "no such digest"),
        ("nginx", "not an image of this registry"),
        ("BAD NAME", "not an image name"),
    ],
)
async def test_an_unknown_image_is_refused_with_the_reason(house: House, image: str, reason: str) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned())
    response = await house.admit(image)
    assert response["allowed"] is False
    assert reason in response["status"]["message"]


async def test_where_tags_of_another_project_point_is_not_told(house: House) -> None:
    other = "localhost:5000/other/web/app"
    await house.hear(pushed(project="other"))
    assert "patch" not in await house.admit(f"{other}:v1"), "no policy: everything is let in, and nothing is pinned"
    await house.require()
    for tag in ("v1", "unknown"):
        assert f"no such tag is known: {tag}" in (await house.admit(f"{other}:{tag}"))["status"]["message"]
    house.memory.grant("projects/other", CLUSTER, "binaryauthorization.policy.evaluatePolicy")
    assert "no attestation" in (await house.admit(f"{other}:v1"))["status"]["message"]


async def test_late_events_do_not_bring_back_what_is_gone(house: House) -> None:
    await house.require()
    await house.hear(pushed(), generation=1)
    await house.hear(scanned())
    await house.hear(ImageUntagged(**AT, tag="v1", digest=A), generation=5)
    await house.hear(pushed(), generation=3)
    assert "no such tag" in (await house.admit(f"{IMAGE}:v1"))["status"]["message"]
    assert (await house.admit(f"{IMAGE}@{A}"))["allowed"] is True
    await house.hear(ImageDeleted(**AT, digest=A), generation=7)
    assert "deleted" in (await house.admit(f"{IMAGE}@{A}"))["status"]["message"]


async def test_each_digest_is_judged_once_and_mixed_images_are_refused_together(house: House) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned())
    response = await house.admit(f"{IMAGE}:v1", f"{IMAGE}@{A}", "nginx", "nginx")
    assert response["allowed"] is False
    assert house.decisions()[0].images == (f"{IMAGE}@{A}", "docker.io/library/nginx:latest")


async def test_breakglass_needs_a_justification_and_is_written_down(house: House) -> None:
    await house.require()
    label = {"labels": {"image-policy.k8s.io/break-glass": "true"}}
    refused = await house.admit("nginx", metadata=label)
    assert "justification" in refused["status"]["message"]
    reason = {"annotations": {"attestor.entrepot/break-glass-justification": "the shop is on fire"}}
    allowed = await house.admit("nginx", metadata=label | reason)
    assert allowed["allowed"] is True
    assert "breakglass" in allowed["warnings"][0]
    assert allowed["auditAnnotations"]["break-glass"] == "the shop is on fire"
    decision = house.decisions()[-1]
    assert decision.breakglass
    assert decision.reasons[-1] == "breakglass: the shop is on fire"


async def test_a_dry_run_rule_warns_and_a_dry_run_request_leaves_no_trace(house: House) -> None:
    rule = {"evaluationMode": "ALWAYS_DENY", "enforcementMode": "DRYRUN_AUDIT_LOG_ONLY"}
    await house.call("PUT", "/v1/projects/demo/policy", {"defaultAdmissionRule": rule})
    response = await house.admit("nginx", dryRun=True)
    assert response["allowed"] is True
    assert "would be refused" in response["warnings"][0]
    assert house.decisions() == []
    await house.admit("nginx")
    assert house.decisions()[0].dry_run


async def test_behind_the_mutating_webhook_only_digests_pass(house: House) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned())
    refused = await house.admit(f"{IMAGE}:v1", path="/validate")
    assert "by tag" in refused["status"]["message"]
    allowed = await house.admit(f"{IMAGE}@{A}", path="/validate")
    assert allowed["allowed"] is True
    assert "patch" not in allowed


async def test_who_may_not_evaluate_learns_nothing(house: House) -> None:
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    assert (await house.call("POST", "/admit", review, NOBODY))[0] == 403
    assert (await house.call("POST", "/admit", review, ""))[0] == 401
    assert (await house.call("POST", "/admit?project=other", review, CLUSTER))[0] == 403
    assert (await house.call("POST", "/admit", review, CLUSTER))[0] == 400


async def test_an_attestor_deleted_or_without_its_key_lets_nothing_in(house: House) -> None:
    await house.require()
    await house.hear(pushed())
    await house.hear(scanned())
    status, attestor = await house.call("GET", f"/v1/{NAME}")
    attestor["userOwnedGrafeasNote"]["publicKeys"] = []
    attestor.pop("autoAttest")
    assert (await house.call("PUT", f"/v1/{NAME}", attestor))[0] == 200
    assert (await house.admit(f"{IMAGE}:v1"))["allowed"] is False
    assert (await house.call("DELETE", f"/v1/{NAME}"))[0] == 200
    assert "does not exist" in (await house.admit(f"{IMAGE}:v1"))["status"]["message"]
    assert status == 200


async def test_an_attestation_made_at_the_scanners_face_counts(house: House) -> None:
    await house.require(threshold="ALLOW_ALL")
    await house.hear(pushed())
    await house.hear(scanned())
    made = house.memory.announced("attestation.created")[0].data["object"]
    await house.hear(pushed(B, tag="v2"))
    occurrence = orjson.loads(await house.memory.parts.blobs.content(made))
    await house.memory.parts.blobs.put("scanner/occurrences/o1", orjson.dumps(occurrence))
    event = OccurrenceChanged(
        project="demo",
        occurrence="projects/demo/occurrences/o1",
        note=occurrence["noteName"],
        kind="ATTESTATION",
        resource_uri=f"https://{IMAGE}@{B}",
        object="scanner/occurrences/o1",
    )
    await house.hear(event)
    assert (await house.admit(f"{IMAGE}:v2"))["allowed"] is False, "it vouches for another digest"


async def test_an_attestation_by_a_key_of_ones_own_counts_as_soon_as_it_is_heard(house: House) -> None:
    key = from_seed(b"\5" * 48)
    public = key.public("mine").json_data()
    body = {"userOwnedGrafeasNote": {"noteReference": "projects/demo/notes/mine", "publicKeys": [public]}}
    await house.call("POST", "/v1/projects/demo/attestors?attestorId=vulnerability", body)
    await house.call("PUT", "/v1/projects/demo/policy", REQUIRE)
    await house.hear(pushed())
    signature = Signature(key_id=key.id, signature=base64.b64encode(key.sign(simple_signing(IMAGE, A))).decode())
    content = occurrence_json(f"https://{IMAGE}@{A}", "projects/demo/notes/mine", simple_signing(IMAGE, A), signature)
    await house.memory.parts.blobs.put("scanner/o1", orjson.dumps(content))
    event = OccurrenceChanged(
        project="demo",
        occurrence="projects/demo/occurrences/o1",
        note="projects/demo/notes/mine",
        kind="ATTESTATION",
        resource_uri=f"https://{IMAGE}@{A}",
        object="scanner/o1",
    )
    await house.hear(event)
    assert (await house.admit(f"{IMAGE}:v1"))["allowed"] is True
    await house.hear(event.model_copy(update={"object": ""}))
    assert (await house.admit(f"{IMAGE}:v1"))["allowed"] is False
    await house.hear(event)
    assert (await house.admit(f"{IMAGE}:v1"))["allowed"] is False, "a late event does not bring it back"


async def test_attestors_are_made_listed_changed_and_deleted_with_etags(house: House) -> None:
    for name in ("a", "b", "c"):
        assert (await house.call("POST", f"/v1/projects/demo/attestors?attestorId={name}", {}))[0] == 200
    assert (await house.call("POST", "/v1/projects/demo/attestors?attestorId=a", {}))[0] == 409
    assert (await house.call("POST", "/v1/projects/demo/attestors?attestorId=-", {}))[0] == 400
    _, first = await house.call("GET", "/v1/projects/demo/attestors?pageSize=2")
    assert [attestor["name"][-1] for attestor in first["attestors"]] == ["a", "b"]
    _, rest = await house.call("GET", f"/v1/projects/demo/attestors?pageToken={first['nextPageToken']}")
    assert [attestor["name"][-1] for attestor in rest["attestors"]] == ["c"]
    attestor = first["attestors"][0]
    _, changed = await house.call("PUT", f"/v1/{attestor['name']}", {**attestor, "description": "new"})
    assert changed["description"] == "new"
    assert (await house.call("PUT", f"/v1/{attestor['name']}", attestor))[0] == 409
    _, keyed = await house.call("POST", f"/v1/{attestor['name']}:generateSigningKey", {})
    assert keyed["signingKeyId"] == keyed["userOwnedGrafeasNote"]["publicKeys"][0]["id"]
    assert (await house.call("DELETE", f"/v1/{attestor['name']}"))[0] == 200
    assert (await house.call("GET", f"/v1/{attestor['name']}"))[0] == 404
    methods = [entry["protoPayload"]["methodName"].rpartition(".")[2] for entry in house.memory.audited()]
    assert methods == ["CreateAttestor"] * 3 + ["UpdateAttestor", "GenerateSigningKey", "DeleteAttestor"]


async def test_the_policy_has_a_default_and_an_etag(house: House) -> None:
    _, policy = await house.call("GET", "/v1/projects/demo/policy")
    assert policy["defaultAdmissionRule"]["evaluationMode"] == "ALWAYS_ALLOW"
    status, changed = await house.call("PUT", "/v1/projects/demo/policy", {**REQUIRE, "etag": policy["etag"]})
    assert status == 200
    assert (await house.call("PUT", "/v1/projects/demo/policy", {**REQUIRE, "etag": policy["etag"]}))[0] == 409
    assert (await house.call("GET", "/v1/projects/demo/policy"))[1] == changed
    assert (await house.call("PUT", "/v1/projects/demo/policy", {"defaultAdmissionRule": {}}))[0] == 400
    assert (await house.call("GET", "/v1/locations/global/policy", member=""))[0] == 200
    assert (await house.call("GET", "/v1/projects/demo/policy:getIamPolicy"))[1] == {"etag": "ACAB"}
    assert (await house.call("GET", "/v1/projects/demo/policy", member=NOBODY))[0] == 403


async def test_what_one_project_attests_about_a_digest_is_kept_up_to_a_limit_and_crowds_out_nobody_elses(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "MOST", 3)
    monkeypatch.setattr(shares, "MOST_WITHDRAWN", 2)
    heard: list[OccurrenceChanged] = []

    async def hear(own: str, project: str = "other", **more: Any) -> None:
        event = OccurrenceChanged(
            project=project,
            occurrence=f"projects/{project}/occurrences/{own}",
            note="projects/other/notes/n",
            kind="ATTESTATION",
            resource_uri=f"https://{IMAGE}@{A}",
            **{"object": "scanner/o", **more},
        )
        heard.append(event)
        await house.hear(event, generation=len(heard))

    async def kept() -> list[tuple[str, bool]]:
        version = await store.version("demo", A)
        return sorted((name.rpartition("/")[2], found.withdrawn) for name, found in version.evidence.items())

    store = Store(house.memory.parts.state, house.memory.parts.keys, house.memory.parts.outbox)
    payload = simple_signing(IMAGE, A)
    content = occurrence_json(
        f"https://{IMAGE}@{A}", "projects/other/notes/n", payload, Signature(key_id="k", signature="c2ln")
    )
    await house.memory.parts.blobs.put("scanner/o", orjson.dumps(content))
    for number in range(5):
        await hear(f"o{number}")
    assert await kept() == [("o0", False), ("o1", False), ("o2", False)]
    await hear("mine", project="demo")
    assert ("mine", False) in await kept()
    await hear("o1", object="")
    await hear("o5")
    assert await kept() == [("mine", False), ("o0", False), ("o1", True), ("o2", False), ("o5", False)]
    await hear("o0", object="")
    await hear("o2", object="")
    assert await kept() == [("mine", False), ("o0", True), ("o2", True), ("o5", False)]


def test_bytes_count_as_attestations_do() -> None:
    large = Evidence(note="projects/other/notes/n", payload="a" * (shares.MOST_BYTES // 2), signatures=())
    kept = {"evidence one": large.stored()}
    assert not shares.fits(kept, "evidence two", large)
    assert shares.fits(kept, "evidence one", large)
    assert shares.fits(kept, "evidence two", Evidence(note="n", payload="", signatures=()))
