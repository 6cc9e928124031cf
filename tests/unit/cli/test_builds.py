"""Following a build: its log is shown once and whole, also where an answer breaks off."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TypeVar

import pytest

from cli.api import Api
from cli.builds import follow
from cli.exits import Failed

T = TypeVar("T")


@dataclass
class Builder:
    """Answers about one build, of which each look finds the next state."""

    states: list[str]
    logs: list[tuple[bytes, int]]
    """What is sent of the log, and how long it says that it is."""
    asked: list[str] = field(default_factory=list[str])

    def answer(self, path: str) -> tuple[bytes, int]:
        self.asked.append(path)
        if path.endswith(":log"):
            return _next(self.logs)
        content = json.dumps({"status": _next(self.states)}).encode()
        return content, len(content)


def _next(those: list[T]) -> T:
    return those.pop(0) if len(those) > 1 else those[0]


@pytest.fixture
def builder() -> Builder:
    return Builder(["WORKING", "SUCCESS"], [])


@pytest.fixture
def api(builder: Builder) -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, length = builder.answer(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Api(f"http://127.0.0.1:{server.server_address[1]}", "token")
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_a_log_that_breaks_off_is_asked_for_again_and_shown_once(
    api: Api, builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.logs = [(b"one\n", 4), (b"one\ntw", 100), (b"one\ntwo\nthree\n", 14)]
    assert follow(api, "demo", "b1")["status"] == "SUCCESS"
    assert capsys.readouterr().err == "one\ntwo\nthree\n"


def test_a_log_that_always_breaks_off_is_told_in_a_sentence(api: Api, builder: Builder) -> None:
    builder.logs = [(b"one\n", 100)]
    with pytest.raises(Failed, match="the log of b1 breaks off"):
        follow(api, "demo", "b1")
