"""What a page of tags costs in a small repository and in a large one: ours alone, for the peer walks a folder."""

import asyncio
import statistics
from dataclasses import dataclass
from pathlib import Path

from services.registry.layout import Layout
from services.registry.names import ImageName
from shared.clock import SystemClock
from shared.names import partition_of
from shared.state import Index, Keys, Step
from shared.state.server import ValkeySettings
from shared.state.valkey import ValkeyState
from tests.performance.load import Connection, must, spread
from tests.performance.rows import Target

SMALL, LARGE = 100, 100_000
PAGE = 100
_STEP = 1000


@dataclass(frozen=True)
class Pages:
    """CPU microseconds for a page of 100 tags, and by how much the large repository's cost more, round by round."""

    small: float
    large: float
    ratio: float


async def measure(target: Target, data: Path, valkey: int, *, rounds: int, count: int) -> Pages:
    """Enter the tags into the index, as pushes do, and list them alternately: a page out of the middle."""
    sizes = {f"demo/bench/tags-{size}": size for size in (SMALL, LARGE)}
    password = await asyncio.to_thread(Path(data, "keys", "valkey", "registry").read_text)
    url = f"redis://127.0.0.1:{valkey}"
    settings = ValkeySettings(url=url, username="registry", password=password.strip(), deadline=30)
    for name, size in sizes.items():
        await _enter(name, size, settings)
    costs: dict[str, list[float]] = {name: [] for name in sizes}
    for _ in range(rounds):
        for name, size in sizes.items():
            before = target.cpu()
            await _list(target, name, size, count)
            costs[name].append((target.cpu() - before) / count * 1e6)
    small, large = costs.values()
    ratios = [more / max(less, 1e-9) for less, more in zip(small, large, strict=True)]
    return Pages(statistics.median(small), statistics.median(large), statistics.median(ratios))


async def _enter(name: str, size: int, settings: ValkeySettings) -> None:
    state = ValkeyState.connect("registry", settings, SystemClock())
    image = ImageName.parse(name)
    key = Layout(Keys("registry")).tags(image)
    try:
        for first in range(0, size, _STEP):
            tags = tuple(Index(key, f"tag-{number:06d}") for number in range(first, min(first + _STEP, size)))
            await state.apply(Step(partition_of(image.project), f"{name} {first}", writes=tags))
    finally:
        await state.close()


async def _list(target: Target, name: str, size: int, count: int) -> None:
    after = f"tag-{(size - PAGE) // 2:06d}" if size > PAGE else ""

    async def one(connection: Connection, number: int) -> None:
        del number
        answer = await connection.call("GET", f"/v2/{name}/tags/list?n={PAGE}&last={after}")
        must(answer, 200)
        if answer.body.count(b'"tag-') != PAGE:
            raise AssertionError(f"{answer.body.count(b'tag-')} tags instead of {PAGE}")

    await spread(target.serving, target.headers, 16, count, one)
