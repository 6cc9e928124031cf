"""A registry for each test: in memory, and once more with its bytes in a directory."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.registry import RegistryClient, registry


@pytest.fixture(params=["memory", "directory"])
async def oci(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[RegistryClient]:
    async with registry(tmp_path / "bucket" if request.param == "directory" else None) as made:
        yield made
