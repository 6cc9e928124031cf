"""The registry on its real servers, with doors between it and them: `python -m tests.support.faulty_registry`.

It ends as by kill -9 at the point that stands in the file `FAULTS`, each time it comes there. It believes everybody who
says `as:MEMBER`, and lets ADA do everything in the project `demo`. With `FAULTS_HASTE` whoever sleeps for longer sleeps
so many seconds, so that what is cleared daily is cleared now. With `FAULTS_AGAIN` it is started again each time, once
the file is empty.
"""

import asyncio
import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

import uvloop

from services.registry.app import build
from shared.assembly import assembled
from shared.blobs import Blobs
from shared.bus import Message, Publisher
from shared.clock import SystemClock
from shared.events.states import Binding, PolicyState, ProjectState, RoleState
from shared.identity.directory import Directory
from shared.lifetime import Lifetime, Real
from shared.parts import Parts
from shared.relay import Relay
from shared.settings import Settings, read
from shared.state import Done, Lease, State, Step
from shared.telemetry.logs import log_to, take_over
from tests.support.parts import Tokens
from tests.support.registry import ADA, EVERYTHING

FAULTS: Final = "FAULTS"
_PARENT_DEATH: Final = 1
"""Of prctl: the signal that comes when the parent ends."""
HALF: Final = 2 * 1024 * 1024
"""Bytes behind which a body is `half`: some of them are in the file, and more are to come."""

_CALLS: Final = {
    ("os.rename", "/objects/blobs/"): "blob synced, not yet renamed",
    ("os.rename", "/objects/manifests/"): "manifest synced, not yet renamed",
    ("os.link", "/objects/blobs/"): "upload synced, not yet linked",
    ("os.remove", "/uploads/"): "upload linked, not yet removed",
}
"""Points inside the bucket, by the call of the operating system that comes next and the path that it is about."""

_STEPS: Final = {b"Docker-FinishUpload": "blob step", b"Docker-PutManifest": "manifest step"}


@dataclass(frozen=True)
class Doors:
    """Where the process may end."""

    chosen: Path

    def at(self, point: str) -> None:
        """Go on, or end here as nobody should."""
        if self.chosen.exists() and self.chosen.read_text() == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def called(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hears of every call of the operating system, before it is made."""
        if event in {"os.rename", "os.link", "os.remove"}:
            path = str(arguments[0 if event == "os.remove" else 1])
            for (call, place), point in _CALLS.items():
                if call == event and place in path:
                    self.at(point)


class DooredBlobs:
    """A bucket with doors."""

    def __init__(self, inner: Blobs, doors: Doors) -> None:
        self._inner, self._doors = inner, doors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, name: str, body: AsyncIterable[bytes] | bytes, *, if_absent: bool = False) -> int:
        body = body if isinstance(body, bytes) else self._halved(body, "blob half written")
        size = await self._inner.put(name, body, if_absent=if_absent)
        self._doors.at(f"{name.partition('/')[0]} renamed, no record")
        return size

    async def stage(self, upload: str) -> None:
        await self._inner.stage(upload)
        self._doors.at("upload made, no bytes")

    async def append(self, upload: str, offset: int, body: AsyncIterable[bytes]) -> int:
        after = await self._inner.append(upload, offset, self._halved(body, "chunk half written"))
        self._doors.at("chunk synced, not answered")
        return after

    async def commit(self, upload: str, name: str, size: int | None = None) -> None:
        self._doors.at("upload whole, not committed")
        await self._inner.commit(upload, name, size)
        self._doors.at("upload committed, no record")

    async def _halved(self, body: AsyncIterable[bytes], point: str) -> AsyncIterator[bytes]:
        came = 0
        async for piece in body:
            yield piece
            came += len(piece)
            if came >= HALF:
                self._doors.at(point)


class DooredState:
    """A state with doors."""

    def __init__(self, inner: State, doors: Doors) -> None:
        self._inner, self._doors = inner, doors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def apply(self, step: Step) -> Done:
        kind = "vouching" if step.request.startswith("vouch ") else "step"
        for word, known in _STEPS.items():
            kind = known if any(word in draft.body for draft in step.drafts) else kind
        self._doors.at(f"before {kind}")
        done = await self._inner.apply(step)
        self._doors.at(f"{kind} committed, not answered")
        return done

    async def drain(self, lease: Lease, seconds: float, published: int, limit: int) -> Any:
        found = await self._inner.drain(lease, seconds, published, limit)
        if published:
            self._doors.at("removed from the lane")
        return found


class DooredPublisher:
    """A bus with doors."""

    def __init__(self, inner: Publisher, doors: Doors) -> None:
        self._inner, self._doors = inner, doors

    async def publish(self, messages: Sequence[Message]) -> None:
        told = any("image.pushed" in message.subject for message in messages)
        if told:
            self._doors.at("in the lane, not published")
        await self._inner.publish(messages)
        if told:
            self._doors.at("published, still in the lane")


class HastyClock(SystemClock):
    """Sleeps at most so long."""

    def __init__(self, longest: float) -> None:
        self._longest = longest

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, self._longest))


def doored(real: Real, doors: Doors) -> Parts:
    """The parts with doors; the relay goes through them, too."""
    parts = real.parts
    haste = os.environ.get("FAULTS_HASTE", "")
    state: Any = DooredState(parts.state, doors)
    blobs: Any = DooredBlobs(parts.blobs, doors)
    real.loops["relay"] = Relay(state, DooredPublisher(parts.bus.publisher, doors), parts.clock, parts.ids).run
    clock = HastyClock(float(haste)) if haste else parts.clock
    return replace(parts, state=state, blobs=blobs, verifier=Tokens(), clock=clock)


def teach(directory: Directory) -> None:
    """What identity would say."""
    directory.learn(ProjectState(project="demo", number=1), 1)
    directory.learn(RoleState(project="", role="roles/test.all", permissions=EVERYTHING), 1)
    binding = Binding(role="roles/test.all", members=(ADA,))
    directory.learn(PolicyState(project="demo", full_name="projects/demo", bindings=(binding,)), 1)


async def live() -> int:
    settings = read(Settings, os.environ)
    log_to(sys.stderr, settings.log_level, "registry")
    doors = Doors(Path(os.environ[FAULTS]))
    sys.addaudithook(doors.called)
    async with assembled("registry", settings, os.environ) as real:
        take_over()
        parts = doored(real, doors)
        teach(parts.directory)
        return await Lifetime(real, build(parts)).live()


def serve() -> NoReturn:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        raise SystemExit(runner.run(live()))


def again_and_again(faults: Path) -> NoReturn:
    """Serve in a child that shares what was imported; when it is dead and the point is gone, in another."""
    deaths = deaths_of(faults)
    gc.freeze()  # or each child would look through it, and copy it in doing so
    while True:
        child = os.fork()
        if not child:
            ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
            serve()
        _, status = os.waitpid(child, 0)
        with deaths.open("a") as told:
            told.write(f"{os.waitstatus_to_exitcode(status)}\n")
        while faults.read_text():
            time.sleep(0.005)


def deaths_of(faults: Path) -> Path:
    """The file with a line for each death: the exit code."""
    return faults.with_suffix(".deaths")


if __name__ == "__main__":
    if os.environ.get("FAULTS_AGAIN"):
        again_and_again(Path(os.environ[FAULTS]))
    serve()
