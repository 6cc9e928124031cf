import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from infra.images import healthy
from infra.images.start import claim

ROOT = Path(__file__).parents[4]


def test_each_replica_takes_a_number_of_its_own_and_a_dead_ones_is_free_again(tmp_path: Path) -> None:
    first, held = claim(tmp_path)
    second, other = claim(tmp_path)
    assert (first, second) == (0, 1)
    os.close(held)
    again, held = claim(tmp_path)
    assert again == 0
    os.close(held)
    os.close(other)


def test_the_service_runs_under_the_number_and_holds_it_as_long_as_it_lives(tmp_path: Path) -> None:
    service = tmp_path / "services" / "mock"
    service.mkdir(parents=True)
    (tmp_path / "services" / "__init__.py").write_text("")
    (service / "__init__.py").write_text("")
    (service / "__main__.py").write_text(
        "import os, sys\nprint(os.environ['ENTREPOT_REPLICA'], flush=True)\nsys.stdin.read()\n"
    )
    told = {**os.environ, "ENTREPOT_SERVICE": "mock", "ENTREPOT_DATA": str(tmp_path / "data")}
    told["PYTHONPATH"] = str(tmp_path)
    with subprocess.Popen(
        [sys.executable, str(ROOT / "infra" / "images" / "start.py")],
        env=told,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "0\n"
        number, handle = claim(tmp_path / "data" / "replicas")
        process.stdin.close()
        process.wait(30)
    os.close(handle)
    assert number == 1


@pytest.mark.parametrize(("answer", "code"), [(b"HTTP/1.1 200 OK\r\n\r\n{}", 0), (b"HTTP/1.1 503 No\r\n\r\n{}", 1)])
def test_a_container_is_healthy_when_its_service_says_that_it_is_ready(
    answer: bytes, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("ENTREPOT_PORT", str(server.getsockname()[1]))
        answering = threading.Thread(target=_answer_once, args=(server, answer))
        answering.start()
        assert healthy.main() == code
        answering.join(10)


def test_a_container_is_not_healthy_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("ENTREPOT_PORT", str(port))
    assert healthy.main() == 1


def _answer_once(server: socket.socket, answer: bytes) -> None:
    line, _ = server.accept()
    with line:
        assert line.recv(4096).startswith(b"GET /readyz ")
        line.sendall(answer)
