"""A registry in memory for each test."""

from collections.abc import AsyncGenerator

import pytest

from tests.support.registry import RegistryClient, registry


@pytest.fixture
async def oci() -> AsyncGenerator[RegistryClient]:
    async with registry() as made:
        yield made
