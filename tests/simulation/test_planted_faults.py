"""A simulation is worth what it finds: each of these mistakes, planted, is found, and its seed replays."""

import pytest

from tests.simulation.faults import ALL, NO_FENCE, Fault
from tests.simulation.seeds import Outcome, run_seed, run_seeds

ENOUGH = 200


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_planted_fault_is_found(fault: Fault, capsys: pytest.CaptureFixture[str]) -> None:
    # A relay without a fence does harm only after it has stood still for longer than its lease.
    pauses = 16 if fault is NO_FENCE else 2
    tried, found = _first(fault, pauses)
    with capsys.disabled():
        print(f"\n{fault.name}: found by seed {found.seed}, the {tried}th tried: {found.breach[:110]}")
    again = run_seed(found.seed, fault, pauses=pauses)
    assert (again.breach, again.trace) == (found.breach, found.trace)


def _first(fault: Fault, pauses: int) -> tuple[int, Outcome]:
    for tried, outcome in enumerate(run_seeds(range(ENOUGH), fault, pauses=pauses), 1):
        if outcome.breach:
            return tried, outcome
    raise AssertionError(f"not found in {ENOUGH} seeds")
