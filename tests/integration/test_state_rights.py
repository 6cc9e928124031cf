"""What a service's account may do on a real Valkey, with the files that `entrepot up` and the compose file write."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from infra.compose.init import init
from infra.embedded import valkey
from infra.embedded.folder import DataFolder
from infra.embedded.ports import SERVICES
from shared.clock import SystemClock
from shared.state.keys import Keys
from shared.state.server import ValkeySettings
from shared.state.step import Put, Step
from shared.state.valkey import ValkeyState
from shared.state_rights import COMMANDS
from tests.support.servers import Server, WheelMissing, running, scratch, valkey_server


@dataclass(frozen=True)
class House:
    """A server whose accounts one of our two ways of starting has made."""

    server: Server
    folder: DataFolder

    def client(self, user: str) -> Any:
        password = valkey.password(self.folder, user).read_text()
        return Redis(port=self.server.port, username=user, password=password, protocol=2)

    def state(self, service: str) -> ValkeyState:
        password = valkey.password(self.folder, service).read_text()
        settings = ValkeySettings(f"redis://127.0.0.1:{self.server.port}", service, password)
        return ValkeyState.connect(service, settings, SystemClock())


@pytest.fixture(scope="module", params=["embedded", "compose"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with scratch() as place:
        try:
            yield from _house(request.param, place)
        except WheelMissing as missing:
            pytest.skip(f"wheel missing: {missing}")


def _house(kind: str, place: Path) -> Iterator[House]:
    if kind == "embedded":
        folder = DataFolder.at(place / "data")
        users = valkey.write_users(folder, list(SERVICES))
    else:
        init(place / "vault", place / "parts", tls=False)
        folder, users = DataFolder.at(place / "vault"), place / "parts" / "valkey" / "users.acl"
    data = place / "server"
    data.mkdir()
    server = valkey_server(data, "--aclfile", str(users))
    # The default user can do nothing at all, so that whoever is let in has a name.
    server.command = [*server.command, "--protected-mode", "no"]
    with running(server):
        yield House(server, folder)


@pytest.fixture
async def registry(house: House) -> AsyncIterator[Any]:
    client = house.client("registry")
    yield client
    await client.aclose()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_lives_with_its_rights(house: House, service: str) -> None:
    state, key = house.state(service), Keys(service).at("07", "thing")
    await state.refuse_unsafe()
    await state.apply(Step("07", f"{service} once", writes=(Put(key, "here"),)))
    assert await state.value(key) == "here"
    assert await state.busy_lanes() == []
    await state.close()


@pytest.mark.parametrize(
    "command",
    [
        "SCAN 0",
        "KEYS *",
        "RANDOMKEY",
        "DBSIZE",
        "CONFIG SET appendonly no",
        "CONFIG REWRITE",
        "INFO",
        "MONITOR",
        "ROLE",
        "FLUSHALL",
        "FLUSHDB",
        "SAVE",
        "BGREWRITEAOF",
        "SHUTDOWN NOSAVE",
        "REPLICAOF NO ONE",
        "CLIENT LIST",
        "CLIENT KILL ID 1",
        "ACL LIST",
        "ACL WHOAMI",
        "ACL SETUSER registry allkeys",
        "COMMAND COUNT",
        "PUBSUB CHANNELS",
        "PSUBSCRIBE *",
        "FUNCTION LIST",
        "SCRIPT FLUSH",
        "OBJECT ENCODING {07}:registry:thing",
        "DUMP {07}:registry:thing",
        "RENAME {07}:registry:thing {07}:registry:other",
        "SORT {07}:registry:thing BY *",
        "SWAPDB 0 1",
        "SELECT 1",
        "SLOWLOG GET",
        "MODULE LIST",
        "GET {07}:identity:thing",
        "GET registry:thing",
        "GET {07}:registry2:thing",
        "GET {07}:identity:registry:",
        "MGET {07}:registry:thing {07}:identity:thing",
        "SET {07}:attestor:thing 1",
        "PUBLISH entrepot:identity:wake x",
        "PUBLISH identity:x x",
        "SUBSCRIBE entrepot:identity:wake",
        "SUBSCRIBE identity:x",
    ],
)
async def test_a_service_can_neither_look_around_nor_change_the_server(registry: Any, command: str) -> None:
    with pytest.raises(NoPermissionError):
        await registry.execute_command(*command.split())


@pytest.mark.parametrize(
    "script",
    [
        "return redis.call('KEYS', '*')",
        "return redis.call('SCAN', '0')",
        "return redis.call('RANDOMKEY')",
        "return redis.call('GET', '{07}:identity:thing')",
        "return redis.call('CONFIG', 'SET', 'appendonly', 'no')",
        "return redis.call('PUBLISH', 'entrepot:identity:wake', 'x')",
    ],
)
async def test_a_script_can_do_no_more_than_its_caller(registry: Any, script: str) -> None:
    with pytest.raises(ResponseError, match=r"(?i)permission|can't access|not allowed|no permissions|ACL"):
        await registry.execute_command("EVAL", script, 0)


async def test_a_service_speaks_on_channels_of_its_own(registry: Any) -> None:
    assert await registry.execute_command("PUBLISH", "registry:tags", "x") == 0
    assert await registry.execute_command("PUBLISH", "entrepot:registry:wake", "x") == 0


async def test_what_a_service_may_read_of_the_settings_holds_no_secret(registry: Any) -> None:
    settings = await registry.config_get("*")
    secrets = ("requirepass", "primaryauth", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass")
    assert {name: settings[name] for name in secrets if settings.get(name)} == {}


async def test_the_launcher_s_account_can_only_ask_whether_the_server_is_there(house: House) -> None:
    client = house.client(valkey.LAUNCHER)
    assert await client.ping()
    for command in (["GET", "{07}:registry:thing"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["SUBSCRIBE", "x"]):
        with pytest.raises(NoPermissionError):
            await client.execute_command(*command)
    await client.aclose()


async def test_nobody_gets_in_without_a_name(house: House) -> None:
    client: Any = Redis(port=house.server.port, protocol=2)
    with pytest.raises(RedisError, match="Authentication required"):
        await client.get("{07}:registry:thing")
    await client.aclose()


def test_no_command_is_allowed_twice() -> None:
    assert len(set(COMMANDS)) == len(COMMANDS)
