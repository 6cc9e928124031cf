"""kubectl against a small API server that asks the attestor's webhook, as a cluster would."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from services.attestor.app import build
from shared.events.images import ImagePushed
from shared.events.scans import ScanCompleted
from tests.support.events import said
from tests.support.kubernetes import ApiServer, manifests
from tests.support.parts import MemoryParts, bearer, client_of, memory_parts

CLUSTER, ADMIN = "serviceAccount:cluster@demo.iam.entrepot", "user:admin@x.example"
DIGESTS = {"good": "sha256:" + "a" * 64, "bad": "sha256:" + "b" * 64}
AT = {"project": "demo", "location": "local", "repository": "web"}

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


@pytest.fixture
async def cluster() -> AsyncIterator[tuple[ApiServer, TestServer]]:
    memory = memory_parts("attestor")
    verbs = ("attestors.create", "policy.update")
    memory.grant("projects/demo", ADMIN, *(f"binaryauthorization.{verb}" for verb in verbs))
    memory.grant("projects/demo", CLUSTER, "binaryauthorization.policy.evaluatePolicy")
    async with client_of(build(memory.parts), memory.parts) as client:
        attestor = {"autoAttest": {"maximumFixableSeverity": "MEDIUM"}}
        rule = {
            "evaluationMode": "REQUIRE_ATTESTATION",
            "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
            "requireAttestationsBy": ["projects/demo/attestors/scan"],
        }
        admin = bearer(ADMIN)
        made = await client.post("/v1/projects/demo/attestors?attestorId=scan", json=attestor, headers=admin)
        put = await client.put("/v1/projects/demo/policy", json={"defaultAdmissionRule": rule}, headers=admin)
        assert (made.status, put.status) == (200, 200)
        await hear(memory)
        server = ApiServer(str(client.make_url("/admit?project=demo&timeout=10s")), bearer(CLUSTER))
        async with TestServer(server.app()) as listening:
            yield server, listening


async def hear(memory: MemoryParts) -> None:
    """Two images are pushed and scanned; one has findings."""
    for image, digest in DIGESTS.items():
        counts = {"CRITICAL": 1} if image == "bad" else {}
        push = ImagePushed(**AT, image=image, digest=digest, tag="v1", media_type="m", size=1, uploaded="now")
        scan = ScanCompleted(
            **AT, image=image, digest=digest, advisories="s", counts=counts, fixable=counts, scanned="now"
        )
        await memory.parts.bus.publisher.publish([said(push, cause=f"p{image}"), said(scan, cause=f"s{image}")])
    for _ in range(60):
        await asyncio.sleep(0.01)
        await memory.clock.advance(0.2)
    assert len(memory.announced("attestation.created")) == 1


async def create(server: TestServer, folder: Path, content: bytes) -> tuple[int, str]:
    """What `kubectl create` answers, as code and text."""
    (folder / "objects.json").write_bytes(content)
    (folder / "kubeconfig").write_text("")
    process = await asyncio.create_subprocess_exec(
        "kubectl",
        f"--server={server.make_url('')}",
        f"--cache-dir={folder}/cache",
        "create",
        "--validate=false",
        "-f",
        str(folder / "objects.json"),
        env={"PATH": os.environ["PATH"], "KUBECONFIG": str(folder / "kubeconfig"), "HOME": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode()


async def test_kubectl_creates_what_is_attested_by_digest(
    cluster: tuple[ApiServer, TestServer], tmp_path: Path
) -> None:
    server, listening = cluster
    code, text = await create(listening, tmp_path, manifests({"good": "localhost:5000/demo/web/good:v1"}))
    assert code == 0, text
    assert [stored["kind"] for stored in server.stored] == ["Pod", "Deployment", "CronJob"]
    pinned = f"localhost:5000/demo/web/good@{DIGESTS['good']}"
    assert server.stored[0]["spec"]["containers"][0]["image"] == pinned
    assert server.stored[1]["spec"]["template"]["spec"]["containers"][0]["image"] == pinned
    job = server.stored[2]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert job["containers"][0]["image"] == pinned


async def test_kubectl_shows_why_an_image_is_refused(cluster: tuple[ApiServer, TestServer], tmp_path: Path) -> None:
    server, listening = cluster
    code, text = await create(listening, tmp_path, manifests({"bad": "localhost:5000/demo/web/bad:v1"}))
    assert code == 1
    assert server.stored == []
    for part in ("Forbidden", "no attestation by projects/demo/attestors/scan", "1 CRITICAL (1 fixable)"):
        assert part in text
