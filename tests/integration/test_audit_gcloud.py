"""gcloud, unmodified, against the audit log and the attestor by endpoint overrides."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.attestor.app import build as build_attestor
from services.audit_log.app import build as build_audit_log
from shared.events.audit import AuditActivity
from tests.support.events import said
from tests.support.gcloud import GcloudProgram
from tests.support.parts import client_of, memory_parts

MEMBER = "user:a@x.example"
ENTRY = {
    "insertId": "i1",
    "timestamp": "2026-01-02T03:04:05.000000Z",
    "protoPayload": {"methodName": "Docker-PutManifest"},
}


@dataclass
class Gcloud:
    """gcloud with the settings that `entrepot env gcloud` would give it."""

    program: GcloudProgram
    environment: dict[str, str]

    async def __call__(self, *arguments: str) -> Any:
        """What a command says, as JSON."""
        done = await asyncio.to_thread(self.program, *arguments, "--format=json", environment=self.environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")


@pytest.fixture
async def gcloud(gcloud_program: GcloudProgram, tmp_path: Path) -> AsyncIterator[Gcloud]:
    log, attestor = memory_parts("audit_log"), memory_parts("attestor")
    log.grant("projects/demo", MEMBER, "logging.logEntries.list", *(f"logging.sinks.{v}" for v in ("create", "list")))
    verbs = ("attestors.create", "attestors.list", "policy.get", "policy.update")
    attestor.grant("projects/demo", MEMBER, *(f"binaryauthorization.{verb}" for verb in verbs))
    event = AuditActivity(project="demo", producer="registry", entry=ENTRY)
    (tmp_path / "token").write_text(f"as:{MEMBER}")
    async with (
        client_of(build_audit_log(log.parts), log.parts) as logging,
        client_of(build_attestor(attestor.parts), attestor.parts) as binauthz,
    ):
        await log.parts.bus.publisher.publish([said(event)])
        yield Gcloud(
            gcloud_program,
            {
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "CLOUDSDK_CONFIG": str(tmp_path),
                "CLOUDSDK_CORE_PROJECT": "demo",
                "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
                "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(tmp_path / "token"),
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": str(logging.make_url("/")),
                "CLOUDSDK_API_ENDPOINT_OVERRIDES_BINARYAUTHORIZATION": str(binauthz.make_url("/")),
            },
        )


async def test_gcloud_reads_the_log_and_makes_sinks(gcloud: Gcloud) -> None:
    (entry,) = await gcloud("logging", "read", 'severity>=NOTICE protoPayload.methodName:"put"', "--freshness=9000d")
    assert entry["insertId"] == "i1"
    destination = "storage.googleapis.com/exports"
    sink = await gcloud("logging", "sinks", "create", "all", destination, "--log-filter=severity>=NOTICE")
    assert sink["filter"] == "severity>=NOTICE"
    assert [found["name"] for found in await gcloud("logging", "sinks", "list")] == ["all"]


async def test_gcloud_makes_attestors_and_imports_a_policy(gcloud: Gcloud, tmp_path: Path) -> None:
    note = ("--attestation-authority-note=n", "--attestation-authority-note-project=demo")
    await gcloud("container", "binauthz", "attestors", "create", "mine", *note)
    (attestor,) = await gcloud("container", "binauthz", "attestors", "list")
    assert attestor["name"] == "projects/demo/attestors/mine"
    policy = await gcloud("container", "binauthz", "policy", "export")
    policy["defaultAdmissionRule"] = {
        "evaluationMode": "REQUIRE_ATTESTATION",
        "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
        "requireAttestationsBy": [attestor["name"]],
    }
    (tmp_path / "policy.yaml").write_text(json.dumps(policy))
    imported = await gcloud("container", "binauthz", "policy", "import", str(tmp_path / "policy.yaml"))
    assert imported["defaultAdmissionRule"] == policy["defaultAdmissionRule"]
