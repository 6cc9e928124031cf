"""A view's facts in a file."""

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.bus.snapshot import Snapshot, confirm, read, write


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "state.snapshot"
    kept = Snapshot("STATE", "2026-01-01T00:00:00Z", 7, {"state.b": b"\x00\xff", "state.a": b"{}"}, 1_700_000_000.0)
    write(file, kept)
    found = read(file)
    assert found == kept
    assert found is not None
    assert list(found.facts) == ["state.b", "state.a"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_confirmation_makes_it_younger(tmp_path: Path) -> None:
    file = tmp_path / "state.snapshot"
    confirm(file, 5.0)
    write(file, Snapshot("STATE", "", 1, {}, 1.0))
    confirm(file, 9.0)
    found = read(file)
    assert found is not None
    assert found.confirmed == 9.0


def test_a_snapshot_that_was_cut_is_none(tmp_path: Path) -> None:
    file = tmp_path / "state.snapshot"
    write(file, Snapshot("STATE", "", 2, {"state.a": b"a" * 50, "state.b": b"b" * 50}, 1.0))
    whole = file.read_bytes()
    for length in range(len(whole) - 1):
        file.write_bytes(whole[:length])
        assert read(file) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary())
def test_anything_else_is_no_snapshot(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "state.snapshot"
    file.write_bytes(content)
    assert read(file) is None
