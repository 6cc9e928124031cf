"""gcloud, unmodified, makes access levels and perimeters by an endpoint override."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.gcloud import GcloudProgram
from tests.support.identity import identity


def at(program: GcloudProgram, environment: dict[str, str]) -> Callable[..., Awaitable[Any]]:
    """Calls `gcloud access-context-manager`: what a command answers, as JSON."""

    async def said(*arguments: str) -> Any:
        words = ("access-context-manager", *arguments, "--format=json")
        done = await asyncio.to_thread(program, *words, environment=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    return said


@pytest.mark.timeout(300)
async def test_gcloud_makes_and_lists_levels_and_perimeters_and_adds_to_them(
    gcloud_program: GcloudProgram, tmp_path: Path
) -> None:
    async with identity(tmp_path) as world:
        (tmp_path / "token").write_text(await world.token())
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "CLOUDSDK_CONFIG": str(tmp_path),
            "CLOUDSDK_CORE_PROJECT": "demo",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_ACCESS_CONTEXT_MANAGER_POLICY": "1",
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(tmp_path / "token"),
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_ACCESSCONTEXTMANAGER": str(world.client.make_url("/")),
        }
        said = at(gcloud_program, environment)
        (policy,) = await said("policies", "list", "--organization=1")
        assert policy["name"] == "accessPolicies/1"
        (tmp_path / "office.yaml").write_text("- ipSubnetworks:\n  - 192.0.2.0/24\n")
        spec = f"--basic-level-spec={tmp_path / 'office.yaml'}"
        await said("levels", "create", "office", "--title=Office", spec)
        number = (await world.call("GET", "/v1/projects/demo"))[1]["projectNumber"]
        inside = (f"--resources=projects/{number}", "--access-levels=office")
        restricted = "--restricted-services=artifactregistry.googleapis.com"
        await said("perimeters", "create", "production", "--title=Production", *inside, restricted)
        more = "--add-restricted-services=logging.googleapis.com"
        await said("perimeters", "update", "production", more)
        (found,) = await said("perimeters", "list")
        assert found["status"] == {
            "resources": [f"projects/{number}"],
            "accessLevels": ["accessPolicies/1/accessLevels/office"],
            "restrictedServices": ["artifactregistry.googleapis.com", "logging.googleapis.com"],
        }
        await said("perimeters", "delete", "production", "--quiet")
        await said("levels", "delete", "office", "--quiet")
