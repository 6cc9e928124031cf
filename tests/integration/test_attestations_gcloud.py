"""gcloud, unmodified, attests an image at the scanner's face with a PKIX key, and the attestor lets it run."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from services.attestor.app import build as build_attestor
from services.scanner.app import build as build_scanner
from shared.bus import Message
from shared.events.images import ImagePushed
from tests.support.events import said
from tests.support.gcloud import GcloudProgram
from tests.support.images import MANIFEST
from tests.support.parts import Client, MemoryParts, bearer, client_of, memory_parts

MEMBER = "user:release@example.org"
DIGEST = f"sha256:{'5' * 64}"
IMAGE = f"registry.example.org/demo/web/app@{DIGEST}"
KEY_VERSION = "projects/demo/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"

pytestmark = pytest.mark.timeout(300)


class Kms:
    """A key that signs digests, as Cloud KMS offers it; the key never leaves."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def pem(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(f"/v1/{KEY_VERSION}/publicKey", self._public)
        app.router.add_post(f"/v1/{KEY_VERSION}:asymmetricSign", self._sign)
        return app

    async def _public(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"pem": self.pem, "algorithm": "EC_SIGN_P256_SHA256"})

    async def _sign(self, request: web.Request) -> web.Response:
        digest = base64.b64decode((await request.json())["digest"]["sha256"])
        signature = self.key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        return web.json_response({"signature": base64.b64encode(signature).decode()})


@dataclass
class House:
    """Scanner and attestor on one bus, a KMS beside, and gcloud that is told where they are."""

    scanner: MemoryParts
    attestor: MemoryParts
    faces: dict[str, Client]
    kms: Kms
    folder: Path
    program: GcloudProgram
    relayed: int = 0

    async def gcloud(self, *arguments: str, plain: bool = False) -> Any:
        """What a command says."""
        overrides = {
            "CONTAINERANALYSIS": self.faces["scanner"].make_url("/"),
            "BINARYAUTHORIZATION": self.faces["attestor"].make_url("/"),
            "CLOUDKMS": self.faces["kms"].make_url("/"),
        }
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "CLOUDSDK_CONFIG": str(self.folder),
            "CLOUDSDK_CORE_PROJECT": "demo",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(self.folder / "token"),
            **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": str(address) for name, address in overrides.items()},
        }
        form = () if plain else ("--format=json",)
        done = await asyncio.to_thread(self.program, *arguments, *form, environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.encode() if plain else json.loads(done.stdout or "null")

    async def make_note(self) -> None:
        """gcloud has no command for it: Google's documentation shows this call."""
        note = {"attestation": {"hint": {"human_readable_name": "release desk"}}}
        path = "/v1/projects/demo/notes?noteId=releases"
        answer = await self.faces["scanner"].post(path, json=note, headers=bearer(MEMBER))
        assert answer.status == 200, await answer.text()

    async def relay(self) -> None:
        """Bring what the scanner said to the attestor."""
        told = self.scanner.announced("occurrence.changed")
        for envelope in told[self.relayed :]:
            content = envelope.model_dump_json().encode()
            await self.attestor.parts.bus.publisher.publish([Message(envelope.id, envelope.subject, content)])
        self.relayed = len(told)
        for _ in range(20):
            await asyncio.sleep(0.005)
            await self.attestor.clock.advance(0.2)

    async def admitted(self) -> bool:
        """Whether the image may run."""
        await self.relay()
        pod = {"metadata": {}, "spec": {"containers": [{"image": IMAGE}]}}
        asked = {"uid": "u", "kind": {"kind": "Pod", "version": "v1"}, "operation": "CREATE", "namespace": "shop"}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**asked, "object": pod}}
        answer = await self.faces["attestor"].post("/admit", json=review, headers=bearer(MEMBER))
        return orjson.loads(await answer.read())["response"]["allowed"]


@pytest.fixture
async def house(gcloud_program: GcloudProgram, tmp_path: Path) -> AsyncIterator[House]:
    scanner = memory_parts("scanner")
    hosts = {"ENTREPOT_ATTESTOR_REGISTRY_HOSTS": "registry.example.org"}
    attestor = memory_parts("attestor", shared=scanner, environment=hosts)
    verbs = ("create", "get", "list", "attachOccurrence", "listOccurrences")
    scanner.grant("projects/demo", MEMBER, *(f"containeranalysis.notes.{verb}" for verb in verbs))
    verbs = ("create", "get", "list", "delete")
    scanner.grant("projects/demo", MEMBER, *(f"containeranalysis.occurrences.{verb}" for verb in verbs))
    verbs = ("attestors.create", "attestors.get", "attestors.list", "attestors.update", "attestors.verifyImageAttested")
    also = ("policy.get", "policy.update", "policy.evaluatePolicy")
    attestor.grant("projects/demo", MEMBER, *(f"binaryauthorization.{verb}" for verb in (*verbs, *also)))
    (tmp_path / "token").write_text(f"as:{MEMBER}")
    kms = Kms()
    async with AsyncExitStack() as stack:
        faces = {
            "scanner": await stack.enter_async_context(client_of(build_scanner(scanner.parts), scanner.parts)),
            "attestor": await stack.enter_async_context(client_of(build_attestor(attestor.parts), attestor.parts)),
            "kms": await stack.enter_async_context(TestClient(TestServer(kms.app()))),
        }
        made = House(scanner, attestor, faces, kms, tmp_path, gcloud_program)
        pushed = ImagePushed(
            project="demo", location="local", repository="web", image="app", digest=DIGEST,
            media_type=MANIFEST, size=1, uploaded="2026-01-01T00:00:00Z",
        )  # fmt: skip
        await attestor.parts.bus.publisher.publish([said(pushed)])
        await require_attestation(made)
        yield made


async def require_attestation(house: House) -> None:
    """A note, an attestor on it with the key, and a policy that asks for it."""
    await house.make_note()
    note = ("--attestation-authority-note=releases", "--attestation-authority-note-project=demo")
    attestors = ("container", "binauthz", "attestors")
    await house.gcloud(*attestors, "create", "release", *note)
    (house.folder / "public.pem").write_text(house.kms.pem)
    await house.gcloud(
        *attestors,
        "public-keys",
        "add",
        "--attestor=release",
        f"--pkix-public-key-file={house.folder / 'public.pem'}",
        "--pkix-public-key-algorithm=ecdsa-p256-sha256",
        "--public-key-id-override=urn:release-key",
    )
    rule = {
        "evaluationMode": "REQUIRE_ATTESTATION",
        "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
        "requireAttestationsBy": ["projects/demo/attestors/release"],
    }
    (house.folder / "policy.yaml").write_text(json.dumps({"defaultAdmissionRule": rule}))
    await house.gcloud("container", "binauthz", "policy", "import", str(house.folder / "policy.yaml"))


async def test_an_image_that_gcloud_attested_may_run_until_the_attestation_is_deleted(house: House) -> None:
    assert await house.admitted() is False
    binauthz = ("container", "binauthz")
    payload = await house.gcloud(*binauthz, "create-signature-payload", f"--artifact-url={IMAGE}", plain=True)
    signature = house.kms.key.sign(payload, ec.ECDSA(hashes.SHA256()))
    (house.folder / "signature").write_bytes(signature)
    (house.folder / "payload").write_bytes(payload)
    made = await house.gcloud(
        *binauthz,
        "attestations",
        "create",
        f"--artifact-url=https://{IMAGE}",
        "--attestor=release",
        "--attestor-project=demo",
        f"--signature-file={house.folder / 'signature'}",
        f"--payload-file={house.folder / 'payload'}",
        "--public-key-id=urn:release-key",
        "--validate",
    )
    assert (made["kind"], made["noteName"]) == ("ATTESTATION", "projects/demo/notes/releases")
    attestor = ("--attestor=release", "--attestor-project=demo")
    for asked in ((), attestor, (*attestor, f"--artifact-url={IMAGE}"), (f"--artifact-url={IMAGE}",)):
        assert await house.gcloud(*binauthz, "attestations", "list", *asked) == [made], asked
    other = IMAGE.replace("5" * 64, "6" * 64)
    assert await house.gcloud(*binauthz, "attestations", "list", *attestor, f"--artifact-url={other}") == []
    assert await house.admitted() is True
    answer = await house.faces["scanner"].delete(f"/v1/{made['name']}", headers=bearer(MEMBER))
    assert answer.status == 200
    assert await house.admitted() is False


async def test_gcloud_signs_with_a_key_of_a_kms_and_attests_in_one_command(house: House) -> None:
    made = await house.gcloud(
        "beta",
        "container",
        "binauthz",
        "attestations",
        "sign-and-create",
        f"--artifact-url={IMAGE}",
        "--note=projects/demo/notes/releases",
        f"--keyversion={KEY_VERSION}",
        "--public-key-id-override=urn:release-key",
    )
    assert made["attestation"]["signatures"][0]["publicKeyId"] == "urn:release-key"
    assert await house.admitted() is True
