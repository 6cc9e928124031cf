"""Names in keys and object names, and ids."""

import asyncio
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from shared.clock import SystemIds, in_a_thread
from shared.names import path_token
from shared.state import Keys


@given(st.text(max_size=80))
def test_a_segment_is_escaped_as_in_an_address(text: str) -> None:
    if not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text):
        assert path_token(text) == quote(text, safe="@!,;=+$")


def test_a_key_names_partition_service_kind_and_parts() -> None:
    assert Keys("registry").of("acme", "tag", "web", "a/b", "sha256:0") == "{62}:registry:tag:acme:web:a%2Fb:sha256%3A0"
    assert Keys("other").of("acme", "tag", "web") != Keys("registry").of("acme", "tag", "web")


async def test_ids_are_unique_whoever_asks_for_them() -> None:
    ids = SystemIds()

    def many() -> list[str]:
        return [ids.new() for _ in range(2000)]

    found = [each for some in await asyncio.gather(*(in_a_thread(many) for _ in range(4))) for each in some]
    assert len(set(found)) == 8000
    assert {len(each) for each in found} == {32}
    assert all(set(each) <= set("0123456789abcdef") for each in found)
