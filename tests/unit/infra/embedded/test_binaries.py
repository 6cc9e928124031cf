from pathlib import Path

import pytest

from infra.embedded import binaries
from infra.embedded.binaries import NATS, VALKEY, Program, find, version
from infra.embedded.errors import CannotStart


@pytest.mark.parametrize("program", [NATS, VALKEY])
def test_the_servers_are_found_in_their_wheels(program: Program) -> None:
    assert find(program).name == program.name


def test_a_setting_points_at_another_copy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "nats-server"
    other.write_text("#!/bin/sh\necho 'nats-server: v2.99.0'\n")
    other.chmod(0o755)
    monkeypatch.setenv(NATS.setting, str(other))

    assert find(NATS) == other


def test_a_copy_that_is_too_old_is_refused_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho 'nats-server: v2.9.10'\n")
    old.chmod(0o755)
    monkeypatch.setenv(NATS.setting, str(old))

    with pytest.raises(CannotStart, match=r"is nats-server 2\.9\.10; 2\.11 or newer is needed"):
        find(NATS)


def test_a_missing_wheel_is_named() -> None:
    unheard_of = Program("nothing", "entrepot-no-such-wheel", "--version", (1, 0), "ENTREPOT_NOTHING_BIN")

    with pytest.raises(CannotStart, match="pip install entrepot-no-such-wheel"):
        find(unheard_of)


def test_a_program_that_does_not_run_here_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_bytes(b"\x00")
    broken.chmod(0o755)

    with pytest.raises(CannotStart, match="does not run on this machine"):
        version(binaries.VALKEY, broken)
