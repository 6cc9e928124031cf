"""Children are forked by a process of its own: the one that runs tests has threads, and must not fork."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

LAUNCH = """
import os, sys, time
from pathlib import Path
from infra.embedded.children import Child, Leash
from infra.embedded.launcher import Launcher
from infra.embedded.signals import Signals, Stopped

folder = Path(sys.argv[1])
signals = Signals()
leash = Leash(signals, [])
launcher = Launcher(signals, leash, print)

def note(name, text):
    with (folder / name).open("a") as file:
        file.write(text + "\\n")

def serve(name):
    import signal
    def work(parent):
        def stop(*_):
            note("ended", name)
            sys.exit(0)
        signal.signal(signal.SIGTERM, stop)
        note("pids", str(os.getpid()))
        while True:
            time.sleep(0.05)
    return work

def child(name, work):
    return Child(name, work, folder / f"{name}.log")

def run_once(name, work):
    step = child(name, work)
    step.forgiving = False
    launcher.start([step])
    launcher.wait_for_end(step, 10)
"""


def launch(folder: Path, script: str) -> "subprocess.Popen[str]":
    program = LAUNCH + dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def lines(path: Path, at_least: int) -> list[str]:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        found = path.read_text().splitlines() if path.exists() else []
        if len(found) >= at_least:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{path} never had {at_least} lines")


def gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


KEEP = """
launcher.start([child("server", serve("server"))])
launcher.start([child("service", serve("service"))])
try:
    while True:
        launcher.watch(10)
except Stopped:
    launcher.stop()
"""


def test_services_are_stopped_before_the_servers_they_stand_on(tmp_path: Path) -> None:
    with launch(tmp_path, KEEP) as launcher:
        lines(tmp_path / "pids", 2)
        launcher.send_signal(signal.SIGINT)

        assert launcher.wait(20) == 0
    assert (tmp_path / "ended").read_text().split() == ["service", "server"]


def test_children_end_when_the_launcher_is_killed(tmp_path: Path) -> None:
    with launch(tmp_path, KEEP) as launcher:
        pids = [int(pid) for pid in lines(tmp_path / "pids", 2)]
        launcher.kill()
        launcher.wait(10)

    assert all(gone(pid) for pid in pids)


def test_a_child_that_dies_is_started_again_and_it_is_said(tmp_path: Path) -> None:
    with launch(tmp_path, KEEP) as launcher:
        pids = lines(tmp_path / "pids", 2)
        os.kill(int(pids[1]), signal.SIGKILL)
        lines(tmp_path / "pids", 3)
        launcher.terminate()
        said, _ = launcher.communicate(timeout=20)

    assert "ended (signal SIGKILL); starting it again in 0.5 s" in said


def test_a_child_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    script = """
    launcher.start([child("hopeless", lambda parent: 3)])
    until = time.monotonic() + 2.2
    try:
        while time.monotonic() < until:
            launcher.watch(0.1)
    finally:
        launcher.stop()
    """
    with launch(tmp_path, script) as launcher:
        said, _ = launcher.communicate(timeout=20)

    assert [line.rpartition("again in ")[2][:5] for line in said.splitlines()] == ["0.5 s", "1.0 s", "2.0 s"]


def test_a_step_that_fails_says_its_last_words(tmp_path: Path) -> None:
    script = """
    from infra.embedded.errors import CannotStart
    def fail(parent):
        print("no such stream")
        return 1
    try:
        run_once("provisioner", fail)
    except CannotStart as error:
        print(error)
    """
    with launch(tmp_path, script) as launcher:
        said, _ = launcher.communicate(timeout=20)

    assert said.startswith("provisioner failed: no such stream (log: ")


def test_a_step_that_succeeds_is_over(tmp_path: Path) -> None:
    with launch(tmp_path, 'run_once("fine", lambda parent: 0); print("over")') as launcher:
        said, _ = launcher.communicate(timeout=20)

    assert said == "over\n"


def test_a_child_keeps_the_leash_and_nothing_that_is_the_launcher_s(tmp_path: Path) -> None:
    script = """
    def is_open(descriptor):
        try:
            os.fstat(descriptor)
        except OSError:
            return False
        return True

    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    leash.mine.append(lock)

    def look(parent):
        note("open", f"{is_open(parent)} {is_open(lock)}")
        return 0

    run_once("curious", look)
    """
    with launch(tmp_path, script) as launcher:
        launcher.communicate(timeout=20)

    assert (tmp_path / "open").read_text() == "True False\n"
