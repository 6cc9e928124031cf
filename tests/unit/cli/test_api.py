import json
from collections.abc import Iterator
from typing import Any

import pytest

from cli.api import Api
from cli.exits import Failed, Missing, NotAllowed
from tests.support.answering import Answer, answering

Answers = dict[str, tuple[int, Any]]


@pytest.fixture
def answers() -> Answers:
    return {}


@pytest.fixture
def api(answers: Answers) -> Iterator[Api]:
    def answer(path: str) -> Answer:
        status, body = answers[path]
        return Answer(body if isinstance(body, bytes) else json.dumps(body).encode(), status)

    with answering(answer) as address:
        yield Api(address, "token")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Failed), (401, NotAllowed), (403, NotAllowed), (404, Missing), (409, Failed), (500, Failed)],
)
def test_a_refusal_has_the_service_s_words_and_a_documented_code(
    api: Api, answers: Answers, status: int, kind: type[Failed]
) -> None:
    answers["/v1/x"] = (status, {"error": {"code": status, "message": "Because."}})

    with pytest.raises(kind, match=r"^Because\.$") as refused:
        api.get("v1/x")
    assert type(refused.value) is kind


def test_an_answer_that_is_not_json_is_told_by_its_status(api: Api, answers: Answers) -> None:
    answers["/v1/x"] = (502, b"<html>")

    with pytest.raises(Failed, match="answered 502"):
        api.get("v1/x")


def test_a_list_is_read_page_after_page(api: Api, answers: Answers) -> None:
    answers["/v1/x"] = (200, {"items": [{"n": 1}, {"n": 2}], "nextPageToken": "a b"})
    answers["/v1/x?pageToken=a+b"] = (200, {"items": [{"n": 3}]})

    assert [item["n"] for item in api.pages("v1/x", "items")] == [1, 2, 3]
    assert [item["n"] for item in api.pages("v1/x", "items", 2)] == [1, 2]


def test_an_empty_filter_is_not_sent(api: Api, answers: Answers) -> None:
    answers["/v1/x"] = (200, {"ok": True})

    assert api.get("v1/x", filter="", pageSize=None) == {"ok": True}


def test_nobody_there_is_said_so() -> None:
    with pytest.raises(Failed, match=r"http://127\.0\.0\.1:1 does not answer"):
        Api("http://127.0.0.1:1").get("v1/x")
