"""Runs seeds, here or in two processes, and says all that is needed to see a failing one again.

`python -m tests.simulation.seeds SEED` replays one of the real services, `... SEED FAULT` one of the models with a
fault planted, or with the fault `sound`; `services: FAULT` plants it under the real services. Several are run in turn.
"""

import gc
import logging
import multiprocessing
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from multiprocessing.pool import Pool

import structlog

from tests.simulation import house
from tests.simulation.faults import ALL, SOUND, Fault
from tests.simulation.intents import Intent, intents_of
from tests.simulation.model_troupe import Models
from tests.simulation.plan import Change, Plan, changes_of, storm_of
from tests.simulation.witness import End, compare
from tests.simulation.world import World

PROCESSES = 2
SETS = 20
"""How many sets of changes there are; the storm is another one for every seed."""
HOUSE_SETS = 10
"""The same for the real services, whose calm runs take longer."""
SERVICES = "services"
"""In a fault's place: the real services, as they are; `services: FAULT` with one planted."""


@dataclass(frozen=True)
class Outcome:
    """What a seed has shown."""

    seed: int
    breach: str = ""
    trace: int = 0
    steps: int = 0
    seconds: float = 0.0
    """Virtual ones."""
    cpu: float = 0.0
    """Seconds of it that the run took, with that of the calm one where that had to be made."""
    counts: Counter[str] = field(default_factory=Counter[str])
    story: str = ""
    """Plan and last steps of a failing seed."""

    def checksum(self) -> str:
        """Equal for equal runs."""
        return f"trace {self.trace} {dict(self.counts)}"


def run_seed(seed: int, fault: Fault = SOUND, *, pauses: int = 2) -> Outcome:
    """A set of changes, made by models in the seed's storm, is to end as it does without one."""
    with _undisturbed():
        changes, calm, steps = _calm(seed % SETS)
        storm = World(seed, storm_of(seed, steps, pauses=pauses), Models(changes), fault)
        return _outcome(seed, storm, _breach(storm, lambda: compare(calm, storm.witness.end(storm.store))))


def run_services(seed: int, fault: Fault = SOUND) -> Outcome:
    """The same with the real services, held against what they have acknowledged."""
    with _undisturbed():
        intents, steps = _calm_house(seed % HOUSE_SETS)
        plan = storm_of(seed, steps, servers=house.SERVERS, within=house.WITHIN)
        storm = World(seed, plan, house.House(intents), fault)
        outcome = _outcome(seed, storm, _breach(storm, lambda: None))
        house.leave()
        return outcome


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What frozen tasks leave behind is not to be tidied up in mid-run.

    What the last run has left is, before: while it is fresh that costs a tenth of what it costs later.
    """
    gc.collect(0)
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _outcome(seed: int, storm: World, breach: str) -> Outcome:
    loop = storm.loop
    story = "\n".join((f"plan: {storm.plan}", *loop.last_steps())) if breach else ""
    trace = zlib.crc32(f"{breach}{sorted(storm.counts.items())}{loop.steps}".encode(), loop.trace % 2**32)
    return Outcome(seed, breach, trace, loop.steps, loop.time(), counts=storm.counts, story=story)


@cache
def _calm(number: int) -> tuple[list[Change], End, dict[str, int]]:
    """One of the sets of changes, how it ends where nothing goes wrong, and how many steps each replica takes."""
    changes = changes_of(number)
    world = World(number, Plan(), Models(changes))
    world.run()
    return changes, world.witness.end(world.store), _steps(world)


@cache
def _calm_house(number: int) -> tuple[list[Intent], dict[str, int]]:
    intents = intents_of(number)
    world = World(number, Plan(), house.House(intents))
    world.run()
    house.leave()
    return intents, _steps(world)


def _steps(world: World) -> dict[str, int]:
    return {name: replica.steps for name, replica in world.replicas.items()}


def _breach(storm: World, finally_: Callable[[], None]) -> str:
    try:
        storm.run()
        finally_()
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed has found it
        return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def processes() -> Iterator[Pool]:
    """Processes that run seeds; starting them takes seconds, so that they are kept for many."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES, initializer=be_quiet) as pool:
        yield pool


def run_seeds(pool: Pool, seeds: Iterable[int], fault: str = SOUND.name) -> Iterator[Outcome]:
    """Many seeds, as they end. Those of one set go to one process, for its calm run is made once in each."""
    sets = HOUSE_SETS if fault.startswith(SERVICES) else SETS
    together = sorted(seeds, key=lambda seed: seed % sets)
    some = min(max(len(together) // sets, 1), 25)
    return pool.imap_unordered(partial(_named, fault, 2), together, chunksize=some)


def run_in_turn(pool: Pool, seeds: Iterable[int], fault: str, *, pauses: int) -> Iterator[Outcome]:
    """A few seeds, in their order."""
    return pool.imap(partial(_named, fault, pauses), seeds)


def _named(fault: str, pauses: int, seed: int) -> Outcome:
    began = time.process_time()
    who, _, planted = fault.partition(": ")
    if who == SERVICES:
        outcome = run_services(seed, named(planted or SOUND.name))
    else:
        outcome = run_seed(seed, named(fault), pauses=pauses)
    return replace(outcome, cpu=time.process_time() - began)


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


def told(outcome: Outcome, fault: str = "") -> str:
    """A failing seed in words."""
    return (
        f"seed {outcome.seed}: {outcome.breach}\n{outcome.story}\n"
        f"again: python -m tests.simulation.seeds {outcome.seed} {fault!r}"
    )


if __name__ == "__main__":
    be_quiet()
    for planted in sys.argv[2:] or [SERVICES]:
        found = _named(planted, 2, int(sys.argv[1]))
        sys.stdout.write(f"{told(found, planted) if found.breach else 'sound'}\n{found.checksum()}\n")
