"""The promise, simulated: whatever crashes, stands still or gets lost, all ends as if nothing had happened.

`ENTREPOT_SEEDS=FIRST-LAST` runs other seeds.
"""

import os
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.plan import CHANGES, LEAST_CRASHES
from tests.simulation.seeds import PROCESSES, run_seeds, told

FIRST, LAST = map(int, os.environ.get("ENTREPOT_SEEDS", "1-2000").split("-"))
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_every_seed_ends_as_if_nothing_had_happened(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = range(FIRST, LAST + 1)
    started, before, counts, steps, virtual = time.monotonic(), _cpu(), Counter[str](), 0, 0.0
    failures: list[str] = []
    for outcome in run_seeds(seeds):
        counts += outcome.counts
        steps += outcome.steps
        virtual += outcome.seconds
        if outcome.breach:
            failures.append(told(outcome))
    with capsys.disabled():
        totals = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        spent = f"{time.monotonic() - started:.0f} s and {_cpu() - before:.0f} s of CPU"
        print(f"\n{len(seeds)} seeds in {spent} by {PROCESSES} processes, {len(failures)} failed")
        print(f"{steps} steps, {virtual / 3600:.1f} virtual hours; {totals}")
    assert not failures, "\n\n".join(failures[:3])
    assert counts["changes"] == CHANGES * len(seeds)
    assert counts["crashes"] >= LEAST_CRASHES * len(seeds)


def test_a_seed_replays_exactly_in_another_process_under_another_hash_seed() -> None:
    traces = {_trace(number, hashing) for hashing in ("1", "2", "77") for number in (7,)}
    assert len(traces) == 1


def test_different_seeds_are_different_runs() -> None:
    assert len({_trace(number, "1") for number in (1, 2, 3)}) == 3


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _trace(seed: int, hashing: str) -> str:
    command = [sys.executable, "-m", "tests.simulation.seeds", str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": hashing}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r"^trace .*$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return found[0]
