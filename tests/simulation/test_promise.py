"""The promise, simulated: whatever crashes, stands still or gets lost, all ends as if nothing had happened.

Twice: with the real services, each built by its own `build`, driven through their routes and held against what they
acknowledged; and, as these cost ten times as much, for many more seeds with models on the same outbox, relay, bus and
journal, held against a run of the same changes without a storm.

`ENTREPOT_SEEDS=FIRST-LAST` runs other seeds, of both.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.pool import Pool
from pathlib import Path

import pytest

from tests.simulation import intents
from tests.simulation.faults import SOUND
from tests.simulation.plan import CHANGES, LEAST_CRASHES
from tests.simulation.seeds import PROCESSES, SERVICES, run_seeds, told

ROOT = Path(__file__).parents[2]
SEEDS = {SOUND.name: 2000, SERVICES: 100}
"""How many there are when nobody chooses: with models, and with the real services."""


@pytest.mark.timeout(900)
def test_every_seed_ends_as_if_nothing_had_happened(pool: Pool, tell: Callable[[str], None]) -> None:
    _every_seed_is_sound(pool, SOUND.name, CHANGES, tell)


@pytest.mark.timeout(900)
def test_every_seed_of_the_real_services_ends_as_they_acknowledged(pool: Pool, tell: Callable[[str], None]) -> None:
    _every_seed_is_sound(pool, SERVICES, intents.CHANGES, tell)


def test_a_seed_replays_exactly_in_another_process_under_another_hash_seed(pool: Pool) -> None:
    here = [outcome.checksum() for who in SEEDS for outcome in run_seeds(pool, [7], who)]
    assert _checksums(7, "1" if os.environ.get("PYTHONHASHSEED") == "77" else "77") == here


@pytest.mark.parametrize("who", [SOUND.name, SERVICES])
def test_different_seeds_are_different_runs(pool: Pool, who: str) -> None:
    assert len({outcome.trace for outcome in run_seeds(pool, (1, 2, 3), who)}) == 3


def _every_seed_is_sound(pool: Pool, who: str, changes: int, tell: Callable[[str], None]) -> None:
    seeds = _seeds(who)
    started, cpu, counts, steps, virtual = time.monotonic(), 0.0, Counter[str](), 0, 0.0
    failures: list[str] = []
    for outcome in run_seeds(pool, seeds, who):
        counts += outcome.counts
        cpu += outcome.cpu
        steps += outcome.steps
        virtual += outcome.seconds
        if outcome.breach:
            failures.append(told(outcome, who))
    totals = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    spent = f"{time.monotonic() - started:.0f} s and {cpu:.0f} s of CPU"
    tell(f"{len(seeds)} seeds of {who} in {spent} by {PROCESSES} processes, {len(failures)} failed")
    tell(f"{steps} steps, {virtual / 3600:.1f} virtual hours; {totals}")
    assert not failures, "\n\n".join(failures[:3])
    assert counts["changes"] == changes * len(seeds)
    assert counts["crashes"] >= LEAST_CRASHES * len(seeds)


def _seeds(who: str) -> range:
    first, _, last = os.environ.get("ENTREPOT_SEEDS", f"1-{SEEDS[who]}").partition("-")
    return range(int(first), int(last or first) + 1)


def _checksums(seed: int, hashing: str) -> list[str]:
    command = [sys.executable, "-m", "tests.simulation.seeds", str(seed), *SEEDS]
    environment = {**os.environ, "PYTHONHASHSEED": hashing}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return re.findall(r"^trace .*$", done.stdout, re.MULTILINE)
