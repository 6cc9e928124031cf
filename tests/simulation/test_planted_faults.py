"""A simulation is worth what it finds: each of these mistakes, planted, is found, and its seed replays."""

from collections.abc import Callable
from multiprocessing.pool import Pool

import pytest

from tests.simulation.faults import ALL, NO_FENCE, NO_GENERATION, OBJECT_AFTER_TAG, Fault
from tests.simulation.seeds import PROCESSES, SERVICES, Outcome, run_in_turn, run_seed

ENOUGH = 200
IN_MODELS_ONLY = (OBJECT_AFTER_TAG, NO_GENERATION)
"""These are mistakes of a service, not of what lies under all of them."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_planted_fault_is_found(fault: Fault, pool: Pool, tell: Callable[[str], None]) -> None:
    # A relay without a fence does harm only after it has stood still for longer than its lease.
    pauses = 16 if fault is NO_FENCE else 2
    found = _first(pool, fault.name, tell, pauses)
    again = run_seed(found.seed, fault, pauses=pauses)
    assert (again.breach, again.trace) == (found.breach, found.trace)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "fault", [each for each in ALL if each not in IN_MODELS_ONLY], ids=lambda fault: fault.name.replace(" ", "_")
)
def test_a_fault_planted_under_the_real_services_is_found(
    fault: Fault, pool: Pool, tell: Callable[[str], None]
) -> None:
    _first(pool, f"{SERVICES}: {fault.name}", tell)


def _first(pool: Pool, fault: str, tell: Callable[[str], None], pauses: int = 2) -> Outcome:
    for first in range(0, ENOUGH, PROCESSES):  # most are found by one of the first two
        for outcome in run_in_turn(pool, range(first, first + PROCESSES), fault, pauses=pauses):
            if outcome.breach:
                tell(f"{fault}: found by seed {outcome.seed}: {outcome.breach[:110]}")
                return outcome
    raise AssertionError(f"{fault}: not found in {ENOUGH} seeds")
