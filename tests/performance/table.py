"""The page that a run of the benchmark becomes."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.performance.events import Latency
from tests.performance.listing import LARGE, SMALL, Pages
from tests.performance.mixed import CLIENTS, PUSHERS, Mixed
from tests.performance.rows import Row

_PAGE = """# Performance

What one request costs, in CPU seconds (user and system) of the server, measured by `./task bench` beside Debian's
docker-registry in the same run: the two take turns, row by row, and a ratio is taken round by round. Wall time and
requests per second say more about the machine than about the program, so they are not here.

- Measured on: {machine}; everything on loopback, storage on the machine's disk.
- **Ours** is the suite as a user starts it: tokens, policies, events, audit, metrics, and fsync before every success;
  the CPU of the registry and of Valkey together.
- **The peer** has no login, no events, no access log, and keeps descriptors in memory.
- A ratio above 1: ours is cheaper.

| row | {peer} | {ours} | unit | ratio, median (smallest to largest) |
|---|---|---|---|---|
{rows}

{apart}

{files}

## Ours alone

- A page of 100 tags out of the middle of {large:,} costs {large_page:.0f} µs, a page of 100 out of {small}
  {small_page:.0f} µs: {pages:.2f} times as much, round by round.
- {clients} clients, {pushers} of which push and the others ask for manifests, for {seconds:.0f} s: {gets:,} manifests
  and {pushes:,} pushes, {errors} errors; half of the manifests within {middle:.1f} ms, 99 of 100 within {slow:.1f} ms,
  {spread:.1f} times as long.

## Where a small push goes

The row "push 1 KB blob and manifest" is three requests, two steps, one round trip of questions and two durable files,
and what is said about them. Sampled while both cores were busy, the registry's own CPU divided so:

| part | share |
|---|---|
| questions and steps, packed for Valkey and understood | 16 % |
| aiohttp: parsing, routing, answering | 15 % |
| deciding: names, manifests, upload addresses, what a step checks and writes | 14 % |
| bucket: two files written, synced and renamed on threads, and the way there and back | 12 % |
| event loop | 11 % |
| the middleware: tokens, policies, metrics, traces | 11 % |
| relay and publication | 10 % |
| events and their envelopes | 6 % |
| audit entries | 4 % |

No part outweighs the others: Python makes some 4,000 calls for such a push, so that one process does not come to a
third of docker-registry's cost, which was the aim. Valkey's part is that of all services: with the others stopped,
about half of it is left. Large blobs cost hashing and copying, and there the aim is a matter of the hash's speed.

## Events

From the answer to a push (a small image with a dpkg database) to `scan.completed` at a subscriber outside: median
{median:.0f} ms, longest {highest:.0f} ms of 20. In a burst of 60 pushes: {rate:.1f} scans per second, pushing included.

## How to read it

CPU time is the scheduler's own count, in nanoseconds. The machine is shared: compare the two columns of one row,
and trust only large differences. Nothing here is asserted by a test.
"""


@dataclass(frozen=True)
class Alone:
    """What was measured of ours alone."""

    latency: Latency
    pages: Pages
    mixed: Mixed
    seconds: float
    """For how long the mixed load ran."""


def page(table: Sequence[Row], peer: str, ours: str, alone: Alone, machine: str) -> str:
    """The whole page as Markdown."""
    latency, pages, mixed = alone.latency, alone.pages, alone.mixed
    return _PAGE.format(
        apart="\n".join(_apart(row) for row in table if row.settle),
        files=beside_files(table, "nginx", ours),
        large=LARGE,
        small=SMALL,
        large_page=pages.large,
        small_page=pages.small,
        pages=pages.ratio,
        clients=CLIENTS,
        pushers=PUSHERS,
        seconds=alone.seconds,
        gets=len(mixed.gets),
        pushes=mixed.pushes,
        errors=len(mixed.errors),
        middle=mixed.median * 1000,
        slow=mixed.p99 * 1000,
        spread=mixed.p99 / mixed.median,
        machine=machine,
        peer=peer,
        ours=ours,
        rows="\n".join(line(row, peer, ours) for row in table),
        median=latency.median * 1000,
        highest=latency.highest * 1000,
        rate=latency.scans_per_second,
    )


def _apart(row: Row) -> str:
    """What a row set going elsewhere; Valkey's part is that of all services, which hear of the push."""
    parts = [f"{name} {row.median(name):.0f} {row.unit}" for name in ("Valkey", "NATS") if name in row.costs]
    return f"Of the row \"{row.title}\": {', '.join(parts)}; Valkey's is counted above, NATS' is not."


def beside_files(table: Sequence[Row], files: str, ours: str) -> str:
    """What a server of files needs for the same."""
    found: list[str] = []
    for row in table:
        if files in row.costs:
            low, middle, high = row.ratio(ours, files)
            found.append(
                f'Of the row "{row.title}": {files} with sendfile, of files alone, takes '
                f"{row.median(files):.3g} {row.unit}; ours {middle:.2f} times as much ({low:.2f} to {high:.2f})."
            )
    return "\n".join(found)


def line(row: Row, peer: str, ours: str) -> str:
    """A row of the table."""
    low, middle, high = row.ratio(peer, ours)
    costs = f"{row.median(peer):.3g} | {row.median(ours):.3g}"
    return f"| {row.title} | {costs} | {row.unit} | {middle:.2f} ({low:.2f} to {high:.2f}) |"
