import subprocess
import sys

import pytest

from cli import main
from cli.main import COMMANDS


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
