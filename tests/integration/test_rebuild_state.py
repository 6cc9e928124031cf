"""The registry's state is flushed and rebuilt on the real servers: Valkey, NATS and a directory of bytes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from services.registry.app import build
from shared.blobs.directory import DirectoryBlobs
from shared.bus.history import JetStreamHistory
from shared.clock import SystemClock, SystemIds
from shared.events import Envelope
from shared.outbox import Outbox
from shared.relay import Relay
from shared.state import State
from shared.state.server import ValkeySettings
from shared.state.valkey import ValkeyState
from shared.state_rights import rights_of
from tests.support.bus import NatsWorld, a_nats_world
from tests.support.parts import client_of
from tests.support.rebuilding import PASSING, Dump, differences, taking
from tests.support.registry import RegistryClient, Remembering
from tests.support.servers import Server, valkey
from tests.support.varied import first_stroke, image, parts_of_two_projects, referrer, second_stroke

__all__ = ["valkey"]

COUNTED_ANEW: dict[str, frozenset[str]] = dict.fromkeys(("counted", "sizes", "due", "manifestuses"), frozenset({"*"}))
BEHIND_THE_SNAPSHOT = COUNTED_ANEW | {
    # A life that began behind the snapshot has another name.
    "repository": frozenset({"open"}),
    # Blobs that were stored behind the last event of their repository, which nobody compares.
    "generations": frozenset({"acme/fresh", "acme/kept", "demo/web"}),
    # What came again is dated by its event, a moment after the record: see `close_by`.
    "version": frozenset({"updated", "uploaded"}),
    "image": frozenset({"updated", "created"}),
    "tag": frozenset({"*"}),
}
NOT_SAID = {
    "version": frozenset({"updated", "uploaded", "annotations"}),
    "image": frozenset({"updated", "created", "annotations"}),
}


@dataclass(frozen=True)
class World:
    """The servers, and where the bytes lie."""

    valkey: Server
    nats: NatsWorld
    bytes: Path

    @property
    def state_url(self) -> str:
        return f"redis://127.0.0.1:{self.valkey.port}"

    async def dump(self) -> Dump:
        """All keys of the registry with what they hold."""
        found: Dump = {}
        async with _asked(self.valkey) as redis:
            async for key in redis.scan_iter("{*}:registry:*", count=1000):
                if not any(kind in key for kind in PASSING):
                    found[key] = await _held(redis, key)
        return found

    async def flush(self) -> None:
        async with _asked(self.valkey) as redis:
            await redis.flushall()

    async def said(self) -> list[Envelope]:
        history = JetStreamHistory(self.nats.address("operator"))
        topics = ["image.pushed", "image.deleted", "image.untagged", "gcr", "repository.changed", "referrer.attached"]
        found = [Envelope.parse(said.content) async for said in history.said("EVENTS", topics)]
        await history.close()
        return found

    def rebuild(self, *arguments: str) -> "subprocess.Popen[str]":
        """The command as a deployment runs it."""
        password = self.bytes.parent / "operator.password"
        password.write_text(self.nats.passwords.of("operator"))
        password.chmod(0o600)
        state = self.bytes.parent / "state.password"
        state.write_text("secret")
        state.chmod(0o600)
        settings = {
            "STATE_URL": self.state_url,
            "STATE_USER": "registry",
            "STATE_PASSWORD_FILE": str(state),
            "BUS_URL": self.nats.url,
            "BUS_USER": "operator",
            "BUS_PASSWORD_FILE": str(password),
            "BUCKET": "directory",
            "BUCKET_DIRECTORY": str(self.bytes),
            "DATA": str(self.bytes.parent / "data"),
        }
        named = {f"ENTREPOT_{name}": value for name, value in settings.items()}
        return subprocess.Popen(
            [sys.executable, "-m", "services.registry.rebuilding", "--format", "json", *arguments],
            env={"PATH": os.defpath, **named},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def rebuilt(self, *arguments: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, report and what was said meanwhile."""
        process = self.rebuild(*arguments)
        out, said = await asyncio.to_thread(process.communicate, None, 60)
        return process.returncode, json.loads(out) if out else {}, said


def _asked(server: Server) -> Any:
    """An administrator's connection; the library types its answers loosely."""
    return Redis(port=server.port, decode_responses=True)


async def _held(redis: Any, key: str) -> Any:
    match await redis.type(key):
        case "hash":
            return dict(sorted((await redis.hgetall(key)).items()))
        case "zset":
            return dict(sorted(await redis.zrange(key, 0, -1, withscores=True)))
        case "string":
            return await redis.get(key)
        case kind:
            return kind


@pytest.fixture
async def world(valkey: Server, tmp_path: Path) -> AsyncIterator[World]:
    async with _asked(valkey) as administrator:
        rights = rights_of("registry").split()
        await administrator.execute_command("ACL", "SETUSER", "registry", "on", ">secret", *rights)
    (tmp_path / "bytes").mkdir()
    async with a_nats_world() as nats:
        yield World(valkey, nats, tmp_path / "bytes")


@asynccontextmanager
async def registry(world: World) -> AsyncGenerator[RegistryClient]:
    """A replica that relays what it says; at the end all of it is published."""
    made = parts_of_two_projects()
    clock = SystemClock()
    state = ValkeyState.connect("registry", ValkeySettings(world.state_url, "registry", "secret"), clock)
    parts = replace(
        made.parts,
        clock=clock,
        ids=SystemIds(),
        state=state,
        bus=Remembering(world.nats.bus("registry")),
        blobs=DirectoryBlobs(world.bytes),
        outbox=Outbox("registry", clock),
    )
    relay = asyncio.create_task(Relay(state, parts.bus.publisher, clock, parts.ids).run())
    try:
        service = build(parts)
        async with client_of(service, parts) as client:
            yield RegistryClient(client, replace(made, parts=parts), service=service)
            await _until(lambda: _dry(state))
    finally:
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)
        await state.close()


async def test_flushed_in_the_middle_of_its_life_all_records_come_back(world: World) -> None:
    async with registry(world) as oci:
        await first_stroke(oci)
        await referrer(oci)
        whole = await taking(oci.parts.parts).take_if_due()
        await second_stroke(oci)
        await referrer(oci, "app 9", "later")
    before, said = await world.dump(), await world.said()
    await world.flush()
    code, report, lines = await world.rebuilt()
    assert (code, report.get("whole")) == (0, True), lines
    assert whole is not None
    assert report["snapshot"] == whole.id
    assert report["known"] > 0
    after = await world.dump()
    assert not (found := differences(before, after, may=BEHIND_THE_SNAPSHOT)), "\n".join(found)
    close_by(before, after)
    await _numbers_go_on(world, said)


async def test_without_a_snapshot_the_streams_alone_bring_back_what_was_said(world: World) -> None:
    async with registry(world) as oci:
        await first_stroke(oci)
        await second_stroke(oci)
        await referrer(oci)
    before, said = await world.dump(), await world.said()
    await world.flush()
    code, report, lines = await world.rebuilt()
    assert (code, report["snapshot"], report["known"]) == (0, "", 0), lines
    after = await world.dump()
    assert not (found := differences(before, after, may=BEHIND_THE_SNAPSHOT | NOT_SAID)), "\n".join(found)
    close_by(before, after)
    await _numbers_go_on(world, said)


async def test_killed_on_its_way_it_is_begun_again(world: World) -> None:
    async with registry(world) as oci:
        await first_stroke(oci)
        await taking(oci.parts.parts).take_if_due()
        await second_stroke(oci)
    before = await world.dump()
    await world.flush()
    process = world.rebuild()
    async with _asked(world.valkey) as redis:
        await _until_marked(redis)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=20)
        assert await redis.hget("{00}:registry:rebuilding", "begun")
        # The lease of the dead one runs out by itself; here nobody waits for that.
        await redis.delete("{00}:registry:rebuilding:lease")
    code, report, lines = await world.rebuilt()
    assert (code, report.get("whole")) == (0, True), lines
    assert "broke off" in lines
    after = await world.dump()
    assert not (found := differences(before, after, may=BEHIND_THE_SNAPSHOT)), "\n".join(found)


async def test_beside_a_running_replica_and_on_records_it_is_refused(world: World) -> None:
    async with registry(world) as oci:
        await oci.push(image("here"), "v1")
        code, report, lines = await world.rebuilt()
        assert (code, report) == (1, {})
        assert "replicas of the registry run" in lines
    code, report, lines = await world.rebuilt()
    assert (code, report) == (1, {})
    assert "the state is not empty" in lines
    code, report, lines = await world.rebuilt("--force")
    assert (code, report["versions"]) == (0, 1), lines


async def _until_marked(redis: Any) -> None:
    await _until(lambda: redis.exists("{00}:registry:rebuilding"))


async def _dry(state: State) -> bool:
    return not await state.busy_lanes()


async def _until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - it comes about in another process
            await asyncio.sleep(0.001)


async def _numbers_go_on(world: World, before: list[Envelope]) -> None:
    """After a push every source is gapless, and generations only grow."""
    async with registry(world) as oci:
        await oci.push(image("later"), "later", "demo/web/app")
        assert (await oci.call("DELETE", "/v2/demo/web/app/manifests/later")).status == 202
    everything = await world.said()
    assert len(everything) > len(before)
    sources: dict[tuple[str, str], list[int]] = {}
    for envelope in everything:
        sources.setdefault((envelope.type, envelope.partitionkey), []).append(envelope.sequence)
    assert {source: numbers for source, numbers in sources.items() if numbers != list(range(1, len(numbers) + 1))} == {}
    last = max(envelope.generation for envelope in before if envelope.subject.endswith(".web"))
    new = [envelope for envelope in everything[len(before) :] if envelope.subject.endswith(".web")]
    assert all(envelope.generation > last for envelope in new)


def close_by(before: Dump, after: Dump) -> None:
    """Times that an event does not tell exactly are those of the event: within a fifth of a second of the record."""
    for key, held in before.items():
        kind = key.split(":")[2]
        if kind == "tag":
            old, new = held.split(" "), after[key].split(" ")
            assert old[:2] == new[:2], key
            _close(old[2:], new[2:], key)
        elif kind in {"version", "image"}:
            names = [name for name in ("uploaded", "updated", "created") if name in held]
            _close([held[name] for name in names], [after[key][name] for name in names], key)


def _close(old: list[str], new: list[str], key: str) -> None:
    for left, right in zip(old, new, strict=True):
        assert abs(_seconds(left) - _seconds(right)) < 0.2, (key, left, right)


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.rstrip("Z").partition("T")[2].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
