"""Etags and operations."""

import pytest

from shared.http.errors import Aborted
from shared.http.etags import etag_of, require_etag
from shared.http.operations import failed, finished, running


def test_the_same_content_has_the_same_etag() -> None:
    assert etag_of({"a": 1, "b": [2]}) == etag_of({"b": [2], "a": 1})
    assert etag_of({"a": 1}) != etag_of({"a": 2})


def test_only_another_etag_is_refused() -> None:
    current = etag_of(b"content")
    require_etag("", current)
    require_etag(f'"{current}"', current)
    with pytest.raises(Aborted, match="etag"):
        require_etag("AAAA", current)


def test_operations_are_written_as_googles_clients_read_them() -> None:
    assert finished("operations/1", {"name": "web"}, "google.protobuf.Empty") == {
        "name": "operations/1",
        "done": True,
        "response": {"@type": "type.googleapis.com/google.protobuf.Empty", "name": "web"},
    }
    assert failed("operations/1", 5, "gone")["error"] == {"code": 5, "message": "gone"}
    assert running("operations/1", {"@type": "x"}) == {
        "name": "operations/1",
        "done": False,
        "metadata": {"@type": "x"},
    }
