"""What the tests of the simulation share."""

from collections.abc import Iterator
from multiprocessing.pool import Pool

import pytest

from tests.simulation.seeds import processes


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with processes() as started:
        yield started
