"""The builder fetches only from where builds may reach, and shows nobody what is not for them."""

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import ClientTimeout
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer
from aiohttp.web import Application, Request, Response, StreamResponse
from yarl import URL

from services.builder.errors import ImageUnavailable
from services.builder.reach import Reach
from services.builder.references import parse_reference
from services.builder.registry import RegistryClient
from services.builder.web import Refused, Web, parsed


@dataclass
class Site:
    """Answers as it is told, and notes who asked with what."""

    answer: Callable[[Request], StreamResponse] = lambda _: Response(text="here")
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    port: int = 0

    async def handle(self, request: Request) -> StreamResponse:
        """Any address."""
        self.asked.append((request.path, request.headers.get("Authorization", "")))
        return self.answer(request)


@dataclass
class Names(AbstractResolver):
    """A name server that says what its owner likes, and something else the second time."""

    addresses: list[str]
    times: int = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The next address of the list; the last one for ever."""
        address = self.addresses[min(self.times, len(self.addresses) - 1)]
        self.times += 1
        return [{"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A server on loopback, where no build may go."""
    made = Site()
    app = Application()
    app.router.add_get("/{rest:.*}", made.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        made.port = server.make_url("/").port or 0
        yield made


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """With nothing private allowed."""
    made = Web.open(Reach(), ClientTimeout(total=10), Names(["127.0.0.1"]))
    yield made
    await made.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "inside.example", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"])  # noqa: S104
async def test_a_private_address_is_refused_however_it_is_named(host: str, site: Site, web: Web) -> None:
    with pytest.raises(Refused):
        await web.get(parsed(f"http://{host}:{site.port}/"), {}, own=False)
    assert not site.asked


async def test_an_address_is_looked_at_and_connected_to_in_one(site: Site) -> None:
    names = Names(["127.0.0.1", "127.0.0.2"])
    web = Web.open(Reach.parse("127.0.0.1"), ClientTimeout(total=10), names)
    answer = await web.get(parsed(f"http://rebinding.example:{site.port}/"), {}, own=False)
    assert (answer.status, names.times) == (200, 1)
    await web.close()


async def test_a_redirect_to_a_private_address_is_refused(site: Site, web: Web) -> None:
    site.answer = lambda _: Response(status=302, headers={"Location": f"http://127.0.0.2:{site.port}/secret"})
    with pytest.raises(Refused):
        await web.get(parsed(f"http://127.0.0.1:{site.port}/"), {"Authorization": "Bearer mine"}, own=True)
    assert site.asked == [("/", "Bearer mine")]


async def test_credentials_do_not_follow_to_another_host(site: Site) -> None:
    web = Web.open(Reach.parse("127.0.0.0/8"), ClientTimeout(total=10))
    there = f"http://localhost:{site.port}/there"
    site.answer = lambda request: (
        Response(text="there") if request.path == "/there" else Response(status=307, headers={"Location": there})
    )
    answer = await web.get(parsed(f"http://127.0.0.1:{site.port}/"), {"Authorization": "Bearer mine"}, own=True)
    assert await answer.text() == "there"
    assert site.asked == [("/", "Bearer mine"), ("/there", "")]
    await web.close()


async def test_redirects_come_to_an_end(site: Site, web: Web) -> None:
    site.answer = lambda _: Response(status=302, headers={"Location": "/again"})
    with pytest.raises(Refused, match="more than 5"):
        await web.get(parsed(f"http://127.0.0.1:{site.port}/"), {}, own=True)
    assert len(site.asked) == 6


@pytest.mark.parametrize("text", ["", "/path", "file:///etc/passwd", "http://u:p@host/", "http://:80/", "gopher://x/"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parsed(text)


async def test_a_registry_on_loopback_that_is_not_ours_is_not_asked(site: Site, web: Web) -> None:
    with pytest.raises(ImageUnavailable, match="do not reach"):
        await RegistryClient(web, "registry.example", None).manifest(parse_reference(f"127.0.0.1:{site.port}/a/b:1"))
    assert not site.asked


@pytest.mark.parametrize(
    "realm", ["http://127.0.0.2:{port}/token", "https://169.254.169.254/token", "file:///etc/passwd"]
)
async def test_a_token_service_elsewhere_is_not_asked(realm: str, site: Site, web: Web) -> None:
    challenge = f'Bearer realm="{realm.format(port=site.port)}",service="x"'
    site.answer = lambda _: Response(status=401, headers={"WWW-Authenticate": challenge})
    home = f"127.0.0.1:{site.port}"
    with pytest.raises(ImageUnavailable):
        await RegistryClient(web, home, None).manifest(parse_reference(f"{home}/a/b:1"))
    assert [path for path, _ in site.asked] == ["/v2/a/b/manifests/1"]


def test_a_redirect_is_joined_to_where_it_came_from() -> None:
    assert parsed(str(URL("http://h:1/a/b").join(URL("../c")))) == URL("http://h:1/c")
