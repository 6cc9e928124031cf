"""The builder as a client of registries: to whom it shows the build account, and to whom not."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from joserfc.jwk import RSAKey

from services.builder import buildah, registry
from services.builder.account import BuildAccount, KeyFile
from services.builder.buildah import Buildah
from services.builder.errors import ImageUnavailable
from services.builder.references import parse_reference
from services.builder.registry import RegistryClient
from services.builder.workspace import Workspace
from shared.clock import SystemClock
from shared.digest import Digest

LAYER = b"layer" * 1000
MANIFEST = orjson.dumps({"schemaVersion": 2, "layers": [], "config": {}})


@dataclass
class FakeRegistry:
    """Wants a token for everything, and notes with which login tokens were fetched."""

    logins: list[str] = field(default_factory=list[str])
    host: str = ""

    def app(self) -> web.Application:
        """Registry, token server and identity in one."""
        app = web.Application()
        app.router.add_get("/v2/{rest:.*}", self.content)
        app.router.add_get("/token", self.token)
        app.router.add_post("/grant", self.grant)
        return app

    async def content(self, request: web.Request) -> web.Response:
        """A manifest or a layer for whoever has any token."""
        if "Authorization" not in request.headers:
            realm = f'Bearer realm="http://{self.host}/token",service="fake"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        return web.Response(body=MANIFEST if "/manifests/" in request.path else LAYER)

    async def token(self, request: web.Request) -> web.Response:
        """A token for anybody."""
        self.logins.append(request.headers.get("Authorization", "anonymous"))
        return web.json_response({"token": "granted"})

    async def grant(self, _: web.Request) -> web.Response:
        """The build account's access token."""
        return web.json_response({"access_token": "of-the-build-account", "expires_in": 3600})


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    """A registry on a port of its own."""
    made = FakeRegistry()
    async with TestServer(made.app()) as server:
        made.host = f"127.0.0.1:{server.make_url('/').port}"
        yield made


def account(fake: FakeRegistry, session: ClientSession) -> BuildAccount:
    """The build account, known to the fake."""
    private = RSAKey.generate_key(2048, private=True).as_pem(private=True).decode()
    return BuildAccount(KeyFile("b@s.iam", "k", private, f"http://{fake.host}/grant"), SystemClock(), session)


async def test_the_account_logs_in_for_images_of_the_builds_own_project_alone(fake: FakeRegistry) -> None:
    async with ClientSession() as session:
        client = RegistryClient(session, fake.host, account(fake, session)).within("beta")
        await client.manifest(parse_reference(f"{fake.host}/beta/tools/sh:1"))
        await client.manifest(parse_reference(f"{fake.host}/alpha/private/sh:1"))
        await client.manifest(parse_reference(f"{fake.host}/beta-too/private/sh:1"))
    login = base64.b64encode(b"oauth2accesstoken:of-the-build-account").decode()
    assert fake.logins == [f"Basic {login}", "anonymous", "anonymous"]


async def test_buildah_is_given_a_login_for_the_builds_own_project_alone(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "build")
    workspace.prepare()
    program = tmp_path / "buildah"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(buildah, "_alone", list[str])
    async with ClientSession() as session:
        step = Buildah(workspace, account(fake, session), f"{fake.host}/beta", Path("/none"))
        running = await step.start(["push", f"{fake.host}/alpha/private/app:1"], "/workspace")
        await running.wait()
    written = orjson.loads((workspace.folder / "buildah" / "auth.json").read_bytes())
    assert list(written["auths"]) == [f"{fake.host}/beta"]


async def test_a_layer_that_does_not_end_is_given_up(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MAX_LAYER", len(LAYER) - 1)
    reference = parse_reference(f"{fake.host}/beta/tools/sh:1")
    async with ClientSession() as session:
        with pytest.raises(ImageUnavailable, match="is over"):
            await RegistryClient(session, fake.host, None).download(reference, Digest.of(LAYER), tmp_path / "layer")
