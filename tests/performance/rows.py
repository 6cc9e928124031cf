"""The rows of the table: what is asked of both registries, alternately, and what it cost each of them."""

import asyncio
import hashlib
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from tests.performance.cpu import listeners, spent
from tests.performance.load import Connection, must, push_blob, push_in_chunks, push_manifest, spread
from tests.support.images import CONFIG, LAYER, MANIFEST, descriptor

MB = 1024 * 1024
ACCEPT = f"{MANIFEST}, application/vnd.oci.image.index.v1+json"
LAYERS = 20
"""Layers of the manifest that is asked for: 3.5 KB, as real ones."""


@dataclass(frozen=True)
class Target:
    """A registry under test."""

    title: str
    serving: Sequence[int]
    """The ports of its replicas, over which readers spread."""
    behind: Sequence[int]
    """Ports of what the replicas ask for each request, whose CPU counts too."""
    name: str
    """The repository to work in."""
    headers: Mapping[str, str]

    @property
    def port(self) -> int:
        """Where writers go."""
        return self.serving[0]

    beside: Mapping[str, int] = field(default_factory=dict[str, int])
    """Ports whose CPU is told apart, by what listens there."""

    def cpu(self) -> float:
        """CPU seconds so far."""
        return _spent_at(*self.serving, *self.behind)

    def apart(self) -> dict[str, float]:
        """CPU seconds so far of what is told apart."""
        return {name: _spent_at(port) for name, port in self.beside.items()}


def _spent_at(*ports: int) -> float:
    return spent(process for port in ports for process in listeners(port))


Work = Callable[[Target, int], Awaitable[None]]


@dataclass
class Row:
    """One kind of work."""

    title: str
    unit: str
    work: Work
    count: int
    """How often a round does it."""
    per: float
    """By how much to multiply CPU seconds per piece of work to have the unit."""
    settle: float = 0.0
    """Seconds after the last answer in which what it sets going is counted, too."""
    is_file: bool = False
    """Whether a server of files can do it, too."""
    costs: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    idle: list[float] = field(default_factory=list[float])
    """CPU seconds that a target took in each second of others' rounds, when nobody asked it for anything."""
    took: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Seconds by the clock, in the unit of the costs."""

    async def measure(self, target: Target, resting: Target | None = None) -> None:
        """One round; what a `resting` target takes meanwhile is noted, too."""
        before, apart, rested, began = target.cpu(), target.apart(), resting.cpu() if resting else 0, time.monotonic()
        await self.work(target, self.count)
        await asyncio.sleep(self.settle)
        seconds = time.monotonic() - began
        if resting:
            self.idle.append((resting.cpu() - rested) / seconds)
        self.took.setdefault(target.title, []).append(seconds / self.count * self.per)
        self._note(target.title, target.cpu() - before)
        for name, seconds in target.apart().items():
            self._note(name, seconds - apart[name])

    def _note(self, title: str, seconds: float) -> None:
        self.costs.setdefault(title, []).append(seconds / self.count * self.per)

    def median(self, title: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.costs[title])

    def at_rest(self, title: str) -> float:
        """How much of a target's cost it would have taken in that time without this work."""
        return statistics.median(self.idle) * statistics.median(self.took[title])

    def ratio(self, peer: str, ours: str) -> tuple[float, float, float]:
        """Peer's cost to ours, round by round: smallest, median, largest."""
        ratios = [theirs / max(own, 1e-9) for theirs, own in zip(self.costs[peer], self.costs[ours], strict=True)]
        return min(ratios), statistics.median(ratios), max(ratios)


def rows(*, quick: bool) -> list[Row]:
    """All rows; with `quick` shorter rounds, for trying the harness out."""
    part = 10 if quick else 1
    micro, per_gb_1, per_gb_100 = 1e6, 1000.0, 10.0
    return [
        *(
            Row(f"manifest {verb} by tag, {readers}", "µs", _manifests(verb, count), _reads(count) // part, micro)
            for verb, counts in (("GET", (1, 16, 64, 256)), ("HEAD", (1, 16)))
            for count in counts
            for readers in (f"{count} connections" if count > 1 else "1 connection",)
        ),
        Row("blob GET 1 MB, 16 connections", "s/GB", _blobs("1", 16), 600 // part, per_gb_1),
        Row("blob GET 100 MB, 2 connections", "s/GB", _blobs("100", 2), 20 // min(part, 5), per_gb_100, is_file=True),
        Row("push 1 KB blob and manifest, 4 connections", "µs", _pushes(1024, 4), 200 // part, micro, settle=1.0),
        Row("push 1 MB blob, 4 connections", "s/GB", _uploads(MB, 4, push_blob), 100 // part, per_gb_1),
        Row("push 100 MB blob, 1 connection", "s/GB", _uploads(100 * MB, 1, push_blob), 3, per_gb_100),
        Row("push 100 MB blob as docker does", "s/GB", _uploads(100 * MB, 1, push_in_chunks), 3, per_gb_100),
    ]


def prepare_files(target: Target, folder: Path) -> None:
    """Lay down for a server of files what the rows for it ask for."""
    content = os.urandom(100_000_000)
    digest = _PREPARED[target.title, "100"] = f"sha256:{hashlib.sha256(content).hexdigest()}"
    place = folder / "v2" / target.name / "blobs" / digest
    place.parent.mkdir(parents=True)
    place.write_bytes(content)


def _reads(connections: int) -> int:
    """Requests of a round: enough for the kernel's count to be fine, with one connection as with many."""
    return 1000 if connections == 1 else 4000


_PREPARED: dict[tuple[str, str], str] = {}


async def prepare(target: Target) -> None:
    """Push what the reading rows ask for."""
    connection = Connection(target.port, target.headers)
    for label, size in (("1", 1_000_000), ("100", 100_000_000)):
        _PREPARED[target.title, label] = await push_blob(connection, target.name, os.urandom(size))
    layers = [os.urandom(1024) for _ in range(LAYERS)]
    for layer in layers:
        await push_blob(connection, target.name, layer)
    config = b"{}"
    await push_blob(connection, target.name, config)
    manifest = manifest_of(config, layers)
    for tag in ("bench", *(f"bench-{number}" for number in range(50))):
        await push_manifest(connection, target.name, tag, manifest, MANIFEST)
    await connection.close()


def manifest_of(config: bytes, layers: Sequence[bytes]) -> bytes:
    """A manifest of these blobs."""
    return orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, config),
            "layers": [descriptor(LAYER, layer) for layer in layers],
        }
    )


def _manifests(verb: str, connections: int) -> Work:
    async def work(target: Target, count: int) -> None:
        async def one(connection: Connection, number: int) -> None:
            path = f"/v2/{target.name}/manifests/bench-{number % 50}"
            must(await connection.call(verb, path, headers={"Accept": ACCEPT}), 200)

        await spread(target.serving, target.headers, connections, count, one)

    return work


def _blobs(label: str, connections: int) -> Work:
    async def work(target: Target, count: int) -> None:
        path = f"/v2/{target.name}/blobs/{_PREPARED[target.title, label]}"

        async def one(connection: Connection, number: int) -> None:
            del number
            must(await connection.call("GET", path, keep=False), 200)

        await spread(target.serving, target.headers, connections, count, one)

    return work


def _uploads(size: int, connections: int, push: Callable[[Connection, str, bytes], Awaitable[str]]) -> Work:
    filler = os.urandom(size)

    async def work(target: Target, count: int) -> None:
        async def one(connection: Connection, number: int) -> None:
            del number
            await push(connection, target.name, os.urandom(16) + filler[16:])

        await spread(target.serving, target.headers, connections, count, one)

    return work


def _pushes(size: int, connections: int) -> Work:
    async def work(target: Target, count: int) -> None:
        async def one(connection: Connection, number: int) -> None:
            layer = os.urandom(size)
            await push_blob(connection, target.name, layer)
            await push_manifest(connection, target.name, f"push-{number % 20}", manifest_of(b"{}", [layer]), MANIFEST)

        await spread(target.serving, target.headers, connections, count, one)

    return work
