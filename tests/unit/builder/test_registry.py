"""The builder as a client of registries: to whom it shows the build account, and to whom not."""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession, ClientTimeout
from aiohttp.test_utils import TestServer
from aiohttp.web import Application, Request, Response, json_response
from joserfc.jwk import RSAKey

from services.builder import registry
from services.builder.account import BuildAccount
from services.builder.buildah import Buildah
from services.builder.errors import ImageUnavailable
from services.builder.reach import Reach
from services.builder.references import parse_reference
from services.builder.registry import RegistryClient
from services.builder.sandbox import Limits, Network, Users
from services.builder.sandbox.cgroups import Cgroups
from services.builder.sandbox.oci import OciSandbox
from services.builder.web import Web
from services.builder.workspace import Workspace
from shared.clock import SystemClock
from shared.digest import Digest
from shared.identity.key_file import KeyFile

LAYER = b"layer" * 1000
MANIFEST = orjson.dumps({"schemaVersion": 2, "layers": [], "config": {}})


@dataclass
class FakeRegistry:
    """Wants a token for everything, and notes with which login tokens were fetched."""

    logins: list[str] = field(default_factory=list[str])
    host: str = ""

    def app(self) -> Application:
        """Registry, token server and identity in one."""
        app = Application()
        app.router.add_get("/v2/{rest:.*}", self.content)
        app.router.add_get("/token", self.token)
        app.router.add_post("/grant", self.grant)
        return app

    async def content(self, request: Request) -> Response:
        """A manifest or a layer for whoever has any token."""
        if "Authorization" not in request.headers:
            realm = f'Bearer realm="http://{self.host}/token",service="fake"'
            return Response(status=401, headers={"WWW-Authenticate": realm})
        return Response(body=MANIFEST if "/manifests/" in request.path else LAYER)

    async def token(self, request: Request) -> Response:
        """A token for anybody."""
        self.logins.append(request.headers.get("Authorization", "anonymous"))
        return json_response({"token": "granted"})

    async def grant(self, _: Request) -> Response:
        """The build account's access token."""
        return json_response({"access_token": "of-the-build-account", "expires_in": 3600})


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


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """What the builder fetches with, where nothing private is allowed."""
    made = Web.open(Reach(), ClientTimeout(total=20))
    yield made
    await made.close()


async def test_the_account_logs_in_for_images_of_the_builds_own_project_alone(fake: FakeRegistry, web: Web) -> None:
    client = RegistryClient(web, fake.host, account(fake, web.inside)).within("beta")
    await client.manifest(parse_reference(f"{fake.host}/beta/tools/sh:1"))
    await client.manifest(parse_reference(f"{fake.host}/alpha/private/sh:1"))
    await client.manifest(parse_reference(f"{fake.host}/beta-too/private/sh:1"))
    login = base64.b64encode(b"oauth2accesstoken:of-the-build-account").decode()
    assert fake.logins == [f"Basic {login}", "anonymous", "anonymous"]


async def test_buildah_is_given_a_login_for_the_builds_own_project_alone(
    fake: FakeRegistry, web: Web, tmp_path: Path
) -> None:
    users = Users(-1, 0, 1, privileged=False)
    step = Buildah(
        Workspace(tmp_path / "build", users),
        account(fake, web.inside),
        f"{fake.host}/beta",
        OciSandbox(Path("/none"), "", users, Cgroups((), unified=False)),
        Limits(),
        no_network,
    )
    _, file = await step.login(tmp_path)
    assert file == str(tmp_path / "auth.json")
    assert list(orjson.loads((tmp_path / "auth.json").read_bytes())["auths"]) == [f"{fake.host}/beta"]


async def no_network() -> Network:
    """Nothing is run here."""
    raise AssertionError


async def test_a_layer_that_does_not_end_is_given_up(
    fake: FakeRegistry, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MAX_LAYER", len(LAYER) - 1)
    reference = parse_reference(f"{fake.host}/beta/tools/sh:1")
    with pytest.raises(ImageUnavailable, match="is over"):
        await RegistryClient(web, fake.host, None).download(reference, Digest.of(LAYER), tmp_path / "layer")
