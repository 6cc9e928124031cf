"""What ValkeyState does when the server dies, stands still, loses an answer, or must not be trusted."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.events import Cause, Draft
from shared.events.images import ImageDeleted
from shared.outbox import Outbox
from shared.state import Add, Keys, StateUnavailable, Step
from shared.state.server import UnsafeState, ValkeySettings, connect
from shared.state.valkey import ValkeyState
from shared.state_rights import rights_of
from tests.support.ports import free_port
from tests.support.servers import Server, running, scratch, valkey, valkey_server

__all__ = ["valkey"]

AT, KEYS = "07", Keys("registry")
COUNT, LANE = KEYS.at(AT, "count"), KEYS.lane(AT, "EVENTS")
numbers = itertools.count(1)


def settings_for(port: int, **more: object) -> ValkeySettings:
    return ValkeySettings(url=f"redis://127.0.0.1:{port}", **more)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def opened(settings: ValkeySettings) -> AsyncIterator[ValkeyState]:
    state = ValkeyState.connect("registry", settings, SystemClock())
    try:
        yield state
    finally:
        await state.close()


def deleted() -> tuple[Draft, ...]:
    event = ImageDeleted(project="acme", repository="web", image="app", digest="sha256:1")
    return Outbox("registry", SystemClock()).drafts([event], Cause(id=f"cause{next(numbers)}"))


def counted(request: str) -> Step:
    return Step(AT, request, (), (Add(COUNT, "n", 1),), deleted(), "web")


class LosesAnswers:
    """Stands between client and server, and cuts the connection when the server has answered but nobody has seen it."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.port = free_port()
        self.cut_in = 0
        """How many answers pass before one is lost; below 0: none is."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection("127.0.0.1", self.server_port)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._pass_on(reader, to_server[1]), self._answer(to_server[0], writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if data.startswith(b"*3\r\n$4\r\ndone"):
                self.cut_in -= 1
                if self.cut_in == 0:
                    break
            writer.write(data)
        writer.close()


async def test_a_step_whose_answer_was_lost_is_done_once_and_says_again(valkey: Server) -> None:
    proxy = LosesAnswers(valkey.port)
    listening = await asyncio.start_server(proxy, "127.0.0.1", proxy.port)
    async with listening, opened(settings_for(proxy.port)) as state:
        await state.apply(counted("first"))
        proxy.cut_in = 1
        done = await state.apply(counted("lost"))
        assert (done.again, done.generation) == (True, 2)
        assert await state.field(COUNT, "n") == "2"
        assert len(await state.entries(LANE, 10)) == 2


async def test_kill_minus_nine_loses_nothing_acknowledged(valkey: Server) -> None:
    acknowledged: list[str] = []
    busy = True

    async def write(state: ValkeyState, writer: int) -> None:
        for number in itertools.count():
            if not busy:
                return
            await state.apply(counted(f"{writer}-{number}"))
            acknowledged.append(f"{writer}-{number}")

    async with opened(settings_for(valkey.port, deadline=10.0)) as state:
        writing = [asyncio.create_task(write(state, writer)) for writer in range(8)]
        for _ in range(3):
            await asyncio.sleep(0.3)
            valkey.kill()
            await asyncio.sleep(0.1)
            await asyncio.to_thread(valkey.start)
        await asyncio.sleep(0.2)
        busy = False
        await asyncio.gather(*writing)
        assert len(acknowledged) > 50
        assert await state.field(COUNT, "n") == str(len(acknowledged))
        entries = await state.entries(LANE, 100_000)
        assert [entry.number for entry in entries] == list(range(1, len(acknowledged) + 1))


async def test_a_server_that_is_away_is_unavailable_at_the_deadline() -> None:
    async with opened(settings_for(free_port(), deadline=0.3)) as state:
        started = time.monotonic()
        with pytest.raises(StateUnavailable):
            await state.apply(counted("never"))
        assert time.monotonic() - started < 1


async def test_a_server_that_stands_still_is_unavailable_at_the_deadline_and_knows_the_request_after(
    valkey: Server,
) -> None:
    async with opened(settings_for(valkey.port, deadline=0.5)) as state:
        await state.apply(counted("warm"))
        valkey.pause()
        with pytest.raises(StateUnavailable):
            await state.apply(counted("unknown"))
        valkey.go_on()
        await state.apply(counted("unknown"))
        assert await state.field(COUNT, "n") == "2"


async def test_a_flushed_script_is_loaded_again(valkey: Server) -> None:
    client = connect(settings_for(valkey.port))
    async with opened(settings_for(valkey.port)) as state:
        await state.apply(counted("one"))
        await client.script_flush()
        assert (await state.apply(counted("two"))).generation == 2
    await client.aclose()


async def test_more_callers_than_connections_wait_their_turn(valkey: Server) -> None:
    async with opened(settings_for(valkey.port, connections=2)) as state:
        done = await asyncio.gather(*(state.apply(counted(f"r{number}")) for number in range(100)))
    assert sorted(one.generation for one in done) == list(range(1, 101))


async def test_cancelled_callers_leave_no_wrong_answers_behind(valkey: Server) -> None:
    async with opened(settings_for(valkey.port, connections=4)) as state:
        for number in range(100):
            call = asyncio.create_task(state.apply(counted(f"c{number}")))
            await asyncio.sleep(0.0005 * (number % 4))
            call.cancel()
        for number in range(20):
            done = await state.apply(Step(AT, f"after{number}", answer=f"answer {number}"))
            assert done.answer == f"answer {number}"


async def test_a_listener_hears_again_after_the_server_came_back(valkey: Server) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen(state: ValkeyState) -> None:
        async for lane in state.woken():
            heard.put_nowait(lane)

    async with opened(settings_for(valkey.port)) as state:
        listening = asyncio.create_task(listen(state))
        await asyncio.sleep(0.2)
        valkey.kill()
        await asyncio.to_thread(valkey.start)
        await asyncio.sleep(1.5)
        await state.apply(counted("one"))
        assert await asyncio.wait_for(heard.get(), 5) == LANE
        listening.cancel()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--appendonly", "no"], "appendonly is no, must be yes"),
        (["--appendfsync", "everysec"], "appendfsync is everysec, must be always"),
        (["--maxmemory-policy", "allkeys-lru"], "maxmemory-policy is allkeys-lru, must be noeviction"),
    ],
)
async def test_a_server_that_may_lose_changes_is_refused_unless_that_is_accepted(
    options: list[str], reason: str
) -> None:
    with scratch() as folder, running(valkey_server(folder, *options)) as server:
        async with opened(settings_for(server.port)) as state:
            with pytest.raises(UnsafeState, match=reason):
                await state.refuse_unsafe()
        async with opened(settings_for(server.port, accept_loss=True)) as state:
            await state.refuse_unsafe()


async def test_a_safe_server_is_taken(valkey: Server) -> None:
    async with opened(settings_for(valkey.port)) as state:
        await state.refuse_unsafe()


async def test_a_user_limited_to_a_service_can_do_all_that_state_does(tmp_path: Path) -> None:
    acl = tmp_path / "users.acl"
    acl.write_text(f"user default off\nuser registry on >secret resetchannels {rights_of('registry')}\n")
    with scratch() as folder, running(valkey_server(folder, "--aclfile", str(acl))) as server:
        async with opened(settings_for(server.port, username="registry", password="secret")) as state:
            await state.refuse_unsafe()
            await state.apply(counted("one"))
            assert await state.busy_lanes() == [LANE]
            assert await state.acquire(LANE, "token", 1)
            woken = asyncio.create_task(anext(state.woken()))
            await asyncio.sleep(0.1)
            assert not woken.done()
            woken.cancel()
        async with opened(settings_for(server.port, username="registry", password="wrong", deadline=0.2)) as state:
            with pytest.raises(StateUnavailable, match="invalid username"):
                await state.value(COUNT)


async def test_a_unix_socket_serves_as_well() -> None:
    with scratch() as folder, running(valkey_server(folder, "--unixsocket", str(folder / "s"))):
        async with opened(ValkeySettings(url=f"unix://{folder}/s")) as state:
            assert (await state.apply(counted("one"))).generation == 1


async def test_with_replicas_success_and_relay_wait_until_those_have_it(valkey: Server) -> None:
    with scratch() as folder:
        follower = valkey_server(
            folder, "--replicaof", "127.0.0.1", str(valkey.port), "--repl-diskless-sync-delay", "0"
        )
        with running(follower):
            async with opened(settings_for(valkey.port, replicas=1, deadline=10.0)) as state:
                assert (await state.apply(counted("one"))).generation == 1
            follower.pause()
            async with opened(settings_for(valkey.port, replicas=1, deadline=1.0)) as state:
                with pytest.raises(StateUnavailable):
                    await state.apply(counted("two"))
                with pytest.raises(StateUnavailable):
                    await state.apply(counted("two"))
            async with opened(settings_for(valkey.port, replicas=1, deadline=1.0)) as state:
                with pytest.raises(StateUnavailable):
                    await state.entries(LANE, 10)
            follower.go_on()
            async with opened(settings_for(valkey.port, replicas=1, deadline=5.0)) as state:
                assert (await state.apply(counted("two"))).again
                assert len(await state.entries(LANE, 10)) == 2
