"""What a run of the benchmark writes into the page about performance: what stands between two marks, and no more."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.performance.events import Latency
from tests.performance.listing import LARGE, SMALL, Pages
from tests.performance.mixed import CLIENTS, PUSHERS, Mixed
from tests.performance.rows import Row

_MARKED = "<!-- {name}: written by ./task bench -- --write -->\n{text}\n<!-- end of {name} -->"

_ROWS = """| row | {peer} | {ours} | unit | ratio, median (smallest to largest) |
|---|---|---|---|---|
{rows}

{apart}

{files}"""

_ALONE = """## Ours alone

- A page of 100 tags out of the middle of {large:,} costs {large_page:.0f} µs, a page of 100 out of {small}
  {small_page:.0f} µs: {pages:.2f} times as much, round by round.
- {clients} clients, {pushers} of which push and the others ask for manifests, for {seconds:.0f} s: {gets:,} manifests
  and {pushes:,} pushes, {errors} errors; half of the manifests within {middle:.1f} ms, 99 of 100 within {slow:.1f} ms,
  {spread:.1f} times as long."""

_EVENTS = """\
From the answer to a push (a small image with a dpkg database) to `scan.completed` at a subscriber outside: median
{median:.0f} ms, longest {highest:.0f} ms of 20. In a burst of 60 pushes: {rate:.1f} scans per second, pushing
included."""


@dataclass(frozen=True)
class Alone:
    """What was measured of ours alone."""

    latency: Latency
    pages: Pages
    mixed: Mixed
    seconds: float
    """For how long the mixed load ran."""


def measured(table: Sequence[Row], titles: tuple[str, str, str], alone: Alone, machine: str) -> dict[str, str]:
    """What was measured, part by part of the page; `titles` are those of the peer, of ours and of the file server."""
    peer, ours, files = titles
    apart = "\n".join(_apart(row) for row in table if row.settle)
    rows = "\n".join(line(row, peer, ours) for row in table)
    latency = alone.latency
    return {
        "place": f"- Measured on: {machine}; everything on loopback, storage on the machine's disk.",
        "rows": _ROWS.format(
            peer=peer, ours=ours, rows=rows, apart=apart, files=beside_files(table, files, ours)
        ).rstrip(),
        "alone": _alone(alone),
        "events": _EVENTS.format(
            median=latency.median * 1000, highest=latency.highest * 1000, rate=latency.scans_per_second
        ),
    }


def written(page: str, parts: dict[str, str]) -> str:
    """The page with these parts in their places; everything else in it stays. Raises LookupError for a lost place."""
    for name, text in parts.items():
        start, end = (re.escape(mark) for mark in _MARKED.format(name=name, text="\n").split("\n\n\n"))
        pattern = re.compile(f"{start}\n.*?{end}", re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise LookupError(f"the page has not one place for {name!r}, between two marks")
        page = pattern.sub(lambda _, name=name, text=text: _MARKED.format(name=name, text=text), page)
    return page


def _alone(alone: Alone) -> str:
    pages, mixed = alone.pages, alone.mixed
    return _ALONE.format(
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
                f"{row.median(files):.3g} {row.unit}; ours {middle:.2f} times as much ({low:.2f} to {high:.2f}), "
                f"{row.at_rest(ours):.3g} {row.unit} of it for what the suite does in that time without readers."
            )
    return "\n".join(found)


def line(row: Row, peer: str, ours: str) -> str:
    """A row of the table."""
    low, middle, high = row.ratio(peer, ours)
    costs = f"{row.median(peer):.3g} | {row.median(ours):.3g}"
    return f"| {row.title} | {costs} | {row.unit} | {middle:.2f} ({low:.2f} to {high:.2f}) |"
