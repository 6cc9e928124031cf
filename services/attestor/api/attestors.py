"""Attestors over HTTP: `projects.attestors` of Binary Authorization, and our own verb that makes a signing key."""

from aiohttp import web
from pydantic import Field

from services.attestor.attestors import ATTESTOR_ID, MOST_KEYS, Attestor
from services.attestor.key_ring import KeyRing
from services.attestor.occurrences import Attestation
from services.attestor.references import Reference
from services.attestor.store import Store
from services.attestor.verification import refusal
from services.attestor.wire import Wire
from shared.clock import Clock, rfc3339
from shared.http.bodies import json_body
from shared.http.call import Call, call_of
from shared.http.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from shared.http.etags import etag_of, require_etag
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.pages import listed
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.state import Change, Kept, Moved

SERVICE = "google.cloud.binaryauthorization.v1.BinauthzManagementServiceV1"
MANY = "/v1/projects/{project}/attestors"
ONE = MANY + "/{attestor:[^/:]+}"
PERMISSION = "binaryauthorization.attestors"


class _Validation(Wire):
    attestation: dict[str, object] = {}
    occurrence_note: str
    occurrence_resource_uri: str = Field(max_length=1024)


class AttestorsApi:
    """Reads the request, asks the store, writes the answer."""

    def __init__(self, store: Store, ring: KeyRing, policies: Policies, clock: Clock) -> None:
        self._store = store
        self._ring = ring
        self._policies = policies
        self._clock = clock

    def routes(self) -> list[Route]:
        """All routes about attestors."""
        write, read = Audit.ADMIN_WRITE, Audit.ADMIN_READ
        verify = "google.cloud.binaryauthorization.v1.ValidationHelperV1.ValidateAttestationOccurrence"
        make_key = "entrepot.attestor.v1.GenerateSigningKey"
        return [
            *iam_routes(self._policies, Guarded(ONE, PERMISSION, SERVICE, self._exists)),
            Route("POST", MANY, self.create, f"{PERMISSION}.create", method=f"{SERVICE}.CreateAttestor", audit=write),
            Route("GET", MANY, self.list, f"{PERMISSION}.list", method=f"{SERVICE}.ListAttestors", audit=read),
            Route(
                "POST",
                f"{ONE}:validateAttestationOccurrence",
                self.validate,
                f"{PERMISSION}.verifyImageAttested",
                method=verify,
                audit=read,
            ),
            Route(
                "POST", f"{ONE}:generateSigningKey", self.make_key, f"{PERMISSION}.update", method=make_key, audit=write
            ),
            Route("GET", ONE, self.get, f"{PERMISSION}.get", method=f"{SERVICE}.GetAttestor", audit=read),
            Route("PUT", ONE, self.update, f"{PERMISSION}.update", method=f"{SERVICE}.UpdateAttestor", audit=write),
            Route("DELETE", ONE, self.delete, f"{PERMISSION}.delete", method=f"{SERVICE}.DeleteAttestor", audit=write),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Make an attestor, with a signing key where it is to attest by itself."""
        attestor = request.query.get("attestorId", "")
        if not ATTESTOR_ID.fullmatch(attestor):
            raise InvalidArgument("attestorId has 1 to 63 letters, digits, dashes and underscores")
        name = f"projects/{request.match_info['project']}/attestors/{attestor}"
        after = await self._settled(await json_body(request, Attestor), name, "")
        try:
            await self._put(call_of(request), after, None)
        except Moved as error:
            raise AlreadyExists(f"{name} exists already") from error
        return json_answer(after.json_data())

    async def list(self, request: web.Request) -> web.Response:
        """Attestors of a project, by name."""
        found = await self._store.attestors(request.match_info["project"])
        return json_answer(listed(request, "attestors", found, lambda kept: kept.thing.json_data()))

    async def get(self, request: web.Request) -> web.Response:
        """One attestor."""
        return json_answer((await self._kept(request)).thing.json_data())

    async def update(self, request: web.Request) -> web.Response:
        """Replace an attestor; its signing key stays."""
        wanted = await json_body(request, Attestor)
        before = await self._kept(request)
        require_etag(wanted.etag, before.thing.etag)
        after = await self._settled(wanted, before.thing.name, before.thing.signing_key_id)
        await self._put(call_of(request), after, before)
        return json_answer(after.json_data())

    async def make_key(self, request: web.Request) -> web.Response:
        """Make a signing key and sign with it from now on; what older keys signed goes on to count."""
        before = await self._kept(request)
        if len(before.thing.keys) >= MOST_KEYS:
            raise FailedPrecondition(f"an attestor has at most {MOST_KEYS} keys")
        after = self._stamped(await self._with_new_key(before.thing))
        await self._put(call_of(request), after, before)
        return json_answer(after.json_data())

    async def delete(self, request: web.Request) -> web.Response:
        """Delete an attestor; what it signed counts no longer."""
        call, before = call_of(request), await self._kept(request)
        name = before.thing.name
        events = [call.activity(project=before.thing.project, resource=name)]
        await self._store.drop_attestor(before, Change(f"{call.id}/attestor", call.cause, events))
        return json_answer({})

    async def validate(self, request: web.Request) -> web.Response:
        """Whether an attestation that the caller holds would count."""
        asked = await json_body(request, _Validation, strict=True)
        attestor = (await self._kept(request)).thing
        try:
            digest = Reference.parse(asked.occurrence_resource_uri.removeprefix("https://")).digest
            evidence = Attestation.model_validate(asked.attestation).evidence(asked.occurrence_note)
        except ValueError as error:
            raise InvalidArgument("the attestation or its resource URI cannot be read") from error
        reason = refusal(attestor, digest, evidence) if digest else "the resource URI has no digest"
        if reason:
            return json_answer({"result": "ATTESTATION_NOT_VERIFIABLE", "denialReason": reason})
        return json_answer({"result": "VERIFIED"})

    async def _exists(self, request: web.Request) -> None:
        await self._kept(request)

    async def _kept(self, request: web.Request) -> Kept[Attestor]:
        project, attestor = request.match_info["project"], request.match_info["attestor"]
        found = await self._store.attestor(project, attestor)
        if found is None:
            raise NotFound(f"projects/{project}/attestors/{attestor} does not exist")
        return found

    async def _settled(self, wanted: Attestor, name: str, signing_key: str) -> Attestor:
        """What is written: output-only fields are ours, whatever the caller sent."""
        try:
            found = wanted.settled(name, rfc3339(self._clock.now()))
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
        found = found.model_copy(update={"signing_key_id": signing_key})
        if found.auto_attest is not None and not signing_key:
            found = await self._with_new_key(found)
        return self._stamped(found)

    async def _with_new_key(self, attestor: Attestor) -> Attestor:
        key = await self._ring.make(attestor.name)
        return attestor.with_key(key.public("made and kept by Entrepot"))

    def _stamped(self, attestor: Attestor) -> Attestor:
        unstamped = attestor.model_copy(update={"etag": "", "update_time": rfc3339(self._clock.now())})
        return unstamped.model_copy(update={"etag": etag_of(unstamped.json_data())})

    async def _put(self, call: Call, after: Attestor, before: Kept[Attestor] | None) -> None:
        content = after.json_data()
        events = [call.activity(project=after.project, resource=after.name, request={"attestor": content})]
        await self._store.put_attestor(after, before, Change(f"{call.id}/attestor", call.cause, events))
