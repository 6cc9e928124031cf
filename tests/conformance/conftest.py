"""A registry for each test: in memory, with its bytes in a directory, and with no lane, where every read has a task."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.registry import RegistryClient, registry


@pytest.fixture(params=["memory", "directory", "no lane"])
async def oci(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[RegistryClient]:
    folder = tmp_path / "bucket" if request.param == "directory" else None
    async with registry(folder, lane=request.param != "no lane") as made:
        yield made
