"""Real clients log in: gcloud with a key file, and docker, podman and skopeo at a registry that asks identity's tokens.

Identity runs as its own process here, with its memory parts; the registry is the smallest that sends a challenge.
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.gcloud import GcloudProgram
from tests.support.ports import free_port

SECONDS = 60
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class House:
    """Identity and a registry that trusts it."""

    identity: str
    registry: str
    key: Path
    home: Path

    async def run(
        self, *command: str, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a client with a home of its own; exit code, and all that it printed."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **(environment or {})},
        )
        async with asyncio.timeout(SECONDS):
            out, _ = await process.communicate(stdin.encode())
        return process.returncode or 0, out.decode(errors="replace")

    def passwords(self, token: str) -> list[tuple[str, str]]:
        """The ways to log in at the registry."""
        file = self.key.read_text()
        return [
            ("_json_key", file),
            ("_json_key_base64", base64.b64encode(file.encode()).decode()),
            ("oauth2accesstoken", token),
        ]


def needs(client: str) -> str:
    path = shutil.which(client)
    if path is None:
        pytest.skip(f"{client} is not installed")
    return path


@asynccontextmanager
async def identity_process(data: Path) -> AsyncGenerator[str]:
    """`python -m services.identity` on a free port."""
    port = free_port()
    settings = {"ENTREPOT_PORT": str(port), "ENTREPOT_DATA": str(data), "ENTREPOT_HOST": "127.0.0.1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.identity",
        cwd=ROOT,
        env={**os.environ, **settings},
        stderr=asyncio.subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        await ready(address)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == 0


async def ready(address: str) -> None:
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{address}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


@asynccontextmanager
async def challenging_registry(identity: str) -> AsyncGenerator[str]:
    """Only `/v2/`: a challenge, and 200 for a token that identity knows."""

    async def base(request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{identity}/tokeninfo?access_token={token}") as told,
        ):
            known = scheme == "Bearer" and told.status == 200
        if known:
            return web.json_response({})
        challenge = f'Bearer realm="{identity}/token",service="registry"'
        return web.json_response(
            {"errors": [{"code": "UNAUTHORIZED"}]}, status=401, headers={"WWW-Authenticate": challenge}
        )

    app = web.Application()
    app.router.add_get("/v2/", base)
    async with TestServer(app, access_log=None) as server:
        yield server.make_url("/").authority


@pytest.fixture
async def house(tmp_path: Path) -> AsyncGenerator[House]:
    data, home = tmp_path / "data", tmp_path / "home"
    home.mkdir()
    async with identity_process(data) as identity, challenging_registry(identity) as registry:
        yield House(identity, registry, data / "admin-key.json", home)


async def called(program: GcloudProgram, house: House, *command: str) -> str:
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(house.home),
        "CLOUDSDK_CONFIG": str(house.home / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_PROJECT": "demo",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAM": f"{house.identity}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER": f"{house.identity}/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE": f"{house.identity}/",
    }
    done = await asyncio.to_thread(program, *command, environment=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


async def access_token(house: House) -> str:
    """A token as a client of Google's makes its assertion."""
    key = json.loads(house.key.read_text())
    now = int(time.time())
    claims = {"iss": key["client_email"], "aud": key["token_uri"], "iat": now, "exp": now + 600}
    assertion = jwt.encode(claims, key["private_key"], "RS256", {"kid": key["private_key_id"]})
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    async with aiohttp.ClientSession() as session, session.post(key["token_uri"], data=form) as answer:
        return (await answer.json())["access_token"]


async def test_gcloud_logs_in_with_the_administrators_key_file_and_manages_projects_and_accounts(
    gcloud_program: GcloudProgram, house: House
) -> None:
    gcloud = partial(called, gcloud_program, house)
    await gcloud("auth", "activate-service-account", f"--key-file={house.key}")
    token = (await gcloud("auth", "print-access-token")).strip()
    assert token.count(".") == 2
    await gcloud("projects", "create", "acme-corp", "--name=Acme")
    listed = await gcloud("projects", "list", "--format=value(projectId)")
    assert set(listed.split()) == {"acme-corp", "demo"}
    await gcloud("iam", "service-accounts", "create", "ci-bot", "--project=acme-corp")
    email = "ci-bot@acme-corp.iam.entrepot"
    path = house.home / "ci.json"
    await gcloud("iam", "service-accounts", "keys", "create", str(path), f"--iam-account={email}")
    role = "--role=roles/artifactregistry.writer"
    bound = await gcloud("projects", "add-iam-policy-binding", "acme-corp", f"--member=serviceAccount:{email}", role)
    assert email in bound
    await gcloud("iam", "service-accounts", "disable", email)
    await gcloud("auth", "activate-service-account", f"--key-file={house.key}")
    assert json.loads(path.read_text())["client_email"] == email


@pytest.mark.parametrize(
    "command",
    [
        ("docker", "login", "-u", "USER", "--password-stdin", "REGISTRY"),
        ("podman", "login", "--tls-verify=false", "-u", "USER", "--password-stdin", "REGISTRY"),
        ("skopeo", "login", "--tls-verify=false", "-u", "USER", "--password-stdin", "REGISTRY"),
    ],
    ids=lambda command: command[0],
)
async def test_a_container_client_logs_in_with_every_kind_of_password_and_not_with_a_wrong_one(
    house: House, command: Sequence[str]
) -> None:
    client = needs(command[0])
    environment = {"DOCKER_CONFIG": str(house.home / "docker"), "REGISTRY_AUTH_FILE": str(house.home / "auth.json")}
    token = await access_token(house)
    for user, password in [*house.passwords(token), ("_json_key", "wrong")]:
        words = [{"USER": user, "REGISTRY": house.registry}.get(word, word) for word in command[1:]]
        code, out = await house.run(client, *words, stdin=password, environment=environment)
        assert (code == 0) == (password != "wrong"), f"{user}: {out}"
