"""Runs seeds, here or in two processes, and says all that is needed to see a failing one again.

`python -m tests.simulation.seeds SEED [FAULT]` replays one.
"""

import gc
import logging
import multiprocessing
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial

import structlog

from tests.simulation.faults import ALL, SOUND, Fault
from tests.simulation.plan import Change, Plan, changes_of, storm_of
from tests.simulation.witness import End, compare
from tests.simulation.world import World

PROCESSES = 2
SETS = 20
"""How many sets of changes there are; the storm is another one for every seed."""


@dataclass(frozen=True)
class Outcome:
    """What a seed has shown."""

    seed: int
    breach: str = ""
    trace: int = 0
    steps: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter[str])
    story: str = ""
    """Plan and last steps of a failing seed."""


def run_seed(seed: int, fault: Fault = SOUND, *, pauses: int = 2) -> Outcome:
    """A set of changes, made in the seed's storm, is to end as it does without one."""
    gc.disable()  # what frozen tasks leave behind is not to be tidied up in mid-run
    try:
        changes, calm, steps = _calm(seed % SETS)
        storm = World(seed, storm_of(seed, steps, pauses=pauses), fault)
        breach = _breach(storm, changes, calm)
    finally:
        gc.enable()
    loop = storm.loop
    story = "\n".join((f"plan: {storm.plan}", *loop.last_steps())) if breach else ""
    trace = zlib.crc32(f"{breach}{sorted(storm.counts.items())}{loop.steps}".encode(), loop.trace % 2**32)
    return Outcome(seed, breach, trace, loop.steps, loop.time(), storm.counts, story)


@cache
def _calm(number: int) -> tuple[list[Change], End, dict[str, int]]:
    """One of the sets of changes, how it ends where nothing goes wrong, and how many steps each replica takes."""
    changes = changes_of(number)
    world = World(number, Plan())
    world.run(changes)
    steps = {name: replica.steps for name, replica in world.replicas.items()}
    return changes, world.witness.end(world.store), steps


def _breach(storm: World, changes: list[Change], calm: End) -> str:
    try:
        storm.run(changes)
        compare(calm, storm.witness.end(storm.store))
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed has found it
        return f"{type(error).__name__}: {error}"
    return ""


def run_seeds(seeds: Iterable[int], fault: Fault = SOUND, *, pauses: int = 2) -> Iterator[Outcome]:
    """Many seeds in processes of their own, as they end."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES, initializer=be_quiet) as pool:
        yield from pool.imap_unordered(partial(_named, fault.name, pauses), seeds, chunksize=4)


def _named(fault: str, pauses: int, seed: int) -> Outcome:
    return run_seed(seed, named(fault), pauses=pauses)


def named(fault: str) -> Fault:
    """The fault of that name."""
    return next(each for each in (SOUND, *ALL) if each.name == fault)


def be_quiet() -> None:
    """What services log about the storm, and what frozen tasks say when they are thrown away, is of no use here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.unraisablehook = lambda _: None
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def told(outcome: Outcome) -> str:
    """A failing seed in words."""
    return (
        f"seed {outcome.seed}: {outcome.breach}\n{outcome.story}\n"
        f"again: python -m tests.simulation.seeds {outcome.seed}"
    )


if __name__ == "__main__":
    be_quiet()
    found = run_seed(int(sys.argv[1]), named(sys.argv[2]) if len(sys.argv) > 2 else SOUND)
    sys.stdout.write(f"{told(found) if found.breach else 'sound'}\ntrace {found.trace} {dict(found.counts)}\n")
