"""Following a build: its log is shown once and whole, also where an answer breaks off."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import pytest

from cli.api import Api
from cli.builds import follow
from cli.exits import Failed
from tests.support.answering import Answer, answering

T = TypeVar("T")


@dataclass
class Builder:
    """Answers about one build, of which each look finds the next state."""

    states: list[str]
    logs: list[Answer]

    def answer(self, path: str) -> Answer:
        if path.endswith(":log"):
            return _next(self.logs)
        return Answer(json.dumps({"status": _next(self.states)}).encode())


def _next(those: list[T]) -> T:
    return those.pop(0) if len(those) > 1 else those[0]


@pytest.fixture
def builder() -> Builder:
    return Builder(["WORKING", "SUCCESS"], [])


@pytest.fixture
def api(builder: Builder) -> Iterator[Api]:
    with answering(builder.answer) as address:
        yield Api(address, "token")


def test_a_log_that_breaks_off_is_asked_for_again_and_shown_once(
    api: Api, builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.logs = [Answer(b"one\n"), Answer(b"one\ntw", length=100), Answer(b"one\ntwo\nthree\n")]
    assert follow(api, "demo", "b1")["status"] == "SUCCESS"
    assert capsys.readouterr().err == "one\ntwo\nthree\n"


def test_a_log_that_always_breaks_off_is_told_in_a_sentence(api: Api, builder: Builder) -> None:
    builder.logs = [Answer(b"one\n", length=100)]
    with pytest.raises(Failed, match="the log of b1 breaks off"):
        follow(api, "demo", "b1")
