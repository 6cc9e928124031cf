"""One suite for all end-to-end tests of a test process; tests that stop or kill one start their own."""

from collections.abc import Iterator

import pytest

from tests.support.suite import Suite, running


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A running suite."""
    with running(tmp_path_factory.mktemp("suite")) as started:
        yield started
