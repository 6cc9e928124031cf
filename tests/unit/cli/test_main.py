import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli import main
from cli.events import line
from cli.main import COMMANDS
from shared.bus.tail import Said


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def leave(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main.main(list(arguments))
    return int(left.value.code or 0)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("--help") == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_of_its_own(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(command, "--help") == 0
    assert f"Usage: entrepot {command}" in capsys.readouterr().out


def test_help_imports_nothing_slow() -> None:
    slow = ("pydantic", "cryptography", "urllib3", "nats", "aiohttp", "asyncio")
    program = (
        "import sys; from cli.main import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: print([name for name in {slow} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert ran.stderr.strip() == "[]"


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("launch") == 2
    assert "No such command 'launch'" in capsys.readouterr().err


def test_what_fails_is_a_sentence_and_not_a_traceback() -> None:
    ran = run("copy", "nonsense", "oci:x")

    assert ran.returncode == 1
    assert ran.stderr.startswith("entrepot: 'nonsense' is no place of an image")
    assert ran.stdout == ""


def test_an_image_that_is_not_there_has_the_code_for_not_found() -> None:
    ran = run("copy", "oci:/nowhere:1", "oci:x:1")

    assert ran.returncode == 5


def test_the_places_that_copy_knows_are_listed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("copy", "--help") == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert {"docker://HOST/NAME:TAG", "oci:FOLDER:TAG", "oci-archive:FILE:TAG"} <= set(lines)


def test_findings_are_not_asked_for_by_tag_where_none_would_look_like_a_clean_image() -> None:
    ran = run("scan", "list", "127.0.0.1:5000/demo/web/app:1")

    assert ran.returncode == 1
    assert "names no digest" in ran.stderr


def test_a_folder_without_steps_is_told_what_to_write(tmp_path: Path) -> None:
    ran = run("builds", "submit", str(tmp_path))

    assert ran.returncode == 1
    assert "cloudbuild.yaml is missing" in ran.stderr
    assert "Dockerfile" in ran.stderr


def test_no_event_takes_more_than_one_line() -> None:
    envelope = {"type": "state.key", "time": "t", "data": {"public_key": "-----BEGIN\nKEY-----\n"}}
    said = Said(1, "state.key", "t", json.dumps(envelope).encode())

    assert line(said) == "t  state.key  public_key=-----BEGIN KEY-----"


def test_a_bus_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x")
    password.chmod(0o600)
    bus = {"address": "nats://127.0.0.1:9", "user": "operator", "password_file": str(password)}
    (tmp_path / "run").mkdir()
    described = {"services": {}, "admin_key": "", "pid": 0, "bus": bus}
    (tmp_path / "run" / "suite.json").write_text(json.dumps(described))
    for command in (["events", "tail"], ["dead", "list"]):
        ran = run(*command, "--data", str(tmp_path))

        assert ran.stdout == ""
        assert ran.stderr.startswith("entrepot: the bus at nats://127.0.0.1:9 does not answer")
        assert len(ran.stderr.splitlines()) == 1
