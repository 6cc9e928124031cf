"""Step images: what pulling one leaves behind when nobody wants it any more."""

import asyncio
import sys
import time
from pathlib import Path

import pytest

from services.builder import images
from services.builder.errors import NoRuntime
from services.builder.sandbox import Users


def running(word: str) -> list[str]:
    """Processes that name the word in their arguments."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes()
        except OSError:
            continue
        found += [entry.parent.name] if word.encode() in arguments else []
    return found


async def until(word: str, *, there: bool) -> None:
    end = time.monotonic() + 30
    while bool(running(word)) != there:
        assert time.monotonic() < end, running(word)
        await asyncio.sleep(0.02)


async def test_unpacking_ends_with_the_build_that_wanted_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        users = await Users.open()
    except NoRuntime as refused:
        pytest.skip(str(refused))
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 31537\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    (tmp_path / "layer").touch()
    unpacking = asyncio.create_task(images.unpack_into(tmp_path / "layer", tmp_path / "root", users))
    await until("31537", there=True)
    unpacking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unpacking
    assert running("31537") == []
    users.close()
