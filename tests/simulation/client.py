"""The client of the real services: asks until it is answered, as clients do, and remembers what it was promised."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tests.simulation.calls import Answer, Call
from tests.simulation.goods import ATTESTORS, feed, image, number_of
from tests.simulation.intents import PROJECTS, Intent
from tests.simulation.loop import Breach
from tests.simulation.world import RETRYABLE, World
from tests.support.images import MANIFEST, digest_of

__all__ = ["CLIENT", "PROJECTS", "Client"]

CLIENT: Final = "user:client@example.org"
REPOSITORY: Final = "web"
NAME: Final = "app"
HOST: Final = "localhost:5000"
UNTAGGED: Final = {"untagged": {"id": "untagged", "action": "DELETE", "condition": {"tagState": "UNTAGGED"}}}
_AGAIN: Final = frozenset({409, 429, 503, 504})


@dataclass
class Promised:
    """What was acknowledged in one project."""

    tags: dict[str, str] = field(default_factory=dict[str, str])
    known_tags: dict[str, None] = field(default_factory=dict[str, None])
    digests: dict[str, None] = field(default_factory=dict[str, None])
    """All that were pushed."""
    blobs: dict[str, None] = field(default_factory=dict[str, None])
    edition: int = 0
    attestors: dict[str, None] = field(default_factory=dict[str, None])
    calls: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Service and call of every acknowledged change, in order."""


@dataclass(frozen=True)
class Decision:
    """An answered admission."""

    project: str
    uid: str
    allowed: bool
    digest: str


class Client:
    """Works in all projects at once, in each of them on one thing after the other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.promised = {project: Promised() for project in PROJECTS}
        self.decisions: list[Decision] = []

    async def make(self, intents: Sequence[Intent]) -> None:
        """Make all changes."""
        lines = [[intent for intent in intents if intent.project == project] for project in PROJECTS]
        await asyncio.gather(*map(self._make, lines))

    async def _make(self, intents: Sequence[Intent]) -> None:
        for intent in intents:
            await getattr(self, f"_{intent.kind}")(intent, self.promised[intent.project])
            self._world.counts["changes"] += 1
            if intent.look:
                await self._look(intent)

    # Changes.

    async def _repository(self, intent: Intent, promised: Promised) -> None:
        path = f"/v1/projects/{intent.project}/locations/local/repositories?repositoryId={REPOSITORY}"
        body = {"format": "DOCKER", "cleanupPolicies": UNTAGGED}
        await self._change("registry", promised, Call("POST", path, orjson.dumps(body)), done="ALREADY_EXISTS")

    async def _advisories(self, intent: Intent, promised: Promised) -> None:
        path = f"/v1/projects/{intent.project}/advisories:import?source=python"
        await self._change("scanner", promised, Call("POST", path, feed(intent.image)))
        promised.edition = intent.image

    async def _attestor(self, intent: Intent, promised: Promised) -> None:
        path = f"/v1/projects/{intent.project}/attestors?attestorId={intent.attestor}"
        body = {"autoAttest": ATTESTORS[intent.attestor]}
        await self._change("attestor", promised, Call("POST", path, orjson.dumps(body)), done="ALREADY_EXISTS")
        promised.attestors[intent.attestor] = None

    async def _policy(self, intent: Intent, promised: Promised) -> None:
        rule = {
            "evaluationMode": "REQUIRE_ATTESTATION",
            "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
            "requireAttestationsBy": [f"projects/{intent.project}/attestors/quality"],
        }
        path = f"/v1/projects/{intent.project}/policy"
        await self._change("attestor", promised, Call("PUT", path, orjson.dumps({"defaultAdmissionRule": rule})))

    async def _push(self, intent: Intent, promised: Promised) -> None:
        pushed = image(intent.image)
        path = f"{_v2(intent.project)}/manifests/{intent.tag}"
        put = Call("PUT", path, pushed.manifest, MANIFEST)
        while True:
            for digest, content in pushed.blobs.items():
                if digest not in promised.blobs:
                    await self._blob(intent, promised, digest, content)
                    promised.blobs[digest] = None
            since = len(self._world.witness.steps)
            answer = await self._change("registry", promised, put, done="MANIFEST_BLOB_UNKNOWN")
            if answer.status < 300:
                break
            self._forget(promised, [error["detail"]["digest"] for error in answer.json["errors"]])
        self._expect(answer.headers["Docker-Content-Digest"] == pushed.digest, "the answer names another digest")
        self._expect_said(since, intent.project, "image.pushed", digest=pushed.digest, tag=intent.tag)
        promised.tags[intent.tag] = pushed.digest
        promised.known_tags[intent.tag] = promised.digests[pushed.digest] = None

    def _forget(self, promised: Promised, gone: Sequence[str]) -> None:
        """Blobs that no image holds go by and by, and at once where the registries' clocks are an hour apart."""
        held = {blob for tagged in promised.tags.values() for blob in image(number_of(tagged)).blobs}
        self._expect(held.isdisjoint(gone), f"{gone} are unknown, and tagged images hold them")
        for digest in gone:
            promised.blobs.pop(digest, None)

    async def _untag(self, intent: Intent, promised: Promised) -> None:
        path = f"{_v2(intent.project)}/manifests/{intent.tag}"
        await self._change("registry", promised, Call("DELETE", path), done="MANIFEST_UNKNOWN")
        promised.tags.pop(intent.tag, None)

    async def _delete(self, intent: Intent, promised: Promised) -> None:
        gone = image(intent.image).digest
        path = f"{_v2(intent.project)}/manifests/{gone}"
        await self._change("registry", promised, Call("DELETE", path), done="MANIFEST_UNKNOWN")
        promised.tags = {tag: digest for tag, digest in promised.tags.items() if digest != gone}

    async def _blob(self, intent: Intent, promised: Promised, digest: str, content: bytes) -> None:
        uploads = f"{_v2(intent.project)}/blobs/uploads/"
        if not intent.chunked:
            await self._change("registry", promised, Call("POST", f"{uploads}?digest={digest}", content), entry=False)
            return
        while True:
            begun = await self._answer("registry", Call("POST", uploads))
            half = len(content) // 2
            first = await self._try("registry", Call("PATCH", begun.headers["Location"], content[:half]))
            if first is None or first.status != 202:
                continue  # nobody knows how much of it came: another upload
            last = Call("PUT", f"{first.headers['Location']}&digest={digest}", content[half:])
            finished = await self._try("registry", last)
            if finished is not None and finished.status == 201:
                return

    # Reads.

    async def _look(self, intent: Intent) -> None:
        path = f"{_v2(intent.project)}/manifests/{intent.tag}"
        pulled = await self._answer("registry", Call("GET", path), done="MANIFEST_UNKNOWN")
        tagged = self.promised[intent.project].tags.get(intent.tag)
        if pulled.status == 200:
            self._expect(digest_of(pulled.content) == tagged, f"{intent.tag} is another image than the one pushed")
        else:
            self._expect(tagged is None, f"{intent.tag} is gone")
        await self._ask_admission(intent, f"@{tagged}" if tagged else f":{intent.tag}", tagged or "")

    async def _ask_admission(self, intent: Intent, which: str, digest: str) -> None:
        uid = f"review-{len(self.decisions)}-{intent.project}"
        pod = {"spec": {"containers": [{"name": "a", "image": f"{HOST}/{intent.project}/{REPOSITORY}/{NAME}{which}"}]}}
        asked = {"uid": uid, "kind": {"version": "v1", "kind": "Pod"}, "operation": "CREATE", "object": pod}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
        call = Call("POST", f"/admit?project={intent.project}", orjson.dumps(review))
        answer = (await self._answer("attestor", call)).json["response"]
        self._world.counts["admissions"] += 1
        if answer.get("status", {}).get("code") != 504:  # not decided in time, which is no decision
            self._world.witness.decided(uid)
            self.decisions.append(Decision(intent.project, uid, answer["allowed"], digest))

    # Asking.

    async def _change(
        self, service: str, promised: Promised, call: Call, done: str = "", *, entry: bool = True
    ) -> Answer:
        answer = await self._answer(service, call, done)
        if entry and answer.status < 300:
            promised.calls.append((service, answer.headers["X-Request-Id"]))
        return answer

    async def _answer(self, service: str, call: Call, done: str = "") -> Answer:
        """Ask until there is an answer that says yes, or says with `done` that it is so already."""
        while True:
            answer = await self._try(service, call)
            if answer is None:
                continue
            if answer.status < 300 or (done and _code(answer) == done):
                return answer
            if answer.status not in _AGAIN:
                self._fail(f"{call.verb} {call.path} was answered {answer.status} {answer.content[:400]!r}")
            await self._world.hesitate()

    async def _try(self, service: str, call: Call) -> Answer | None:
        try:
            answer = await self._world.ask(service, lambda app: call.answered(app, CLIENT))
        except RETRYABLE as error:
            self._world.counts[type(error).__name__] += 1
            await self._world.hesitate()
            return None
        self._world.counts["calls"] += 1
        if answer.status == 500:
            self._fail(f"{call.verb} {call.path} was answered {answer.status} {answer.content[:400]!r}")
        return answer

    def _expect_said(self, since: int, project: str, topic: str, **told: str) -> None:
        drafts = [draft for step in self._world.witness.steps[since:] for draft in step.drafts]
        data = [orjson.loads(each.body)["data"] for each in drafts if (each.topic, each.project) == (topic, project)]
        found = [one for one in data if told.items() <= one.items()]
        self._expect(bool(found), f"{told} was acknowledged and no {topic} committed")

    def _expect(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition
        if not holds:
            self._fail(otherwise)

    def _fail(self, why: str) -> None:
        breach = Breach(why)
        self._world.loop.fail(breach)
        raise breach


def _v2(project: str) -> str:
    return f"/v2/{project}/{REPOSITORY}/{NAME}"


def _code(answer: Answer) -> str:
    body: Any = answer.json
    if "errors" in body:
        return str(body["errors"][0]["code"])
    return str(body["error"].get("status", ""))
