"""Long-running operations as Google's clients expect them; what Entrepot does at once is finished at once."""

from typing import Any


def finished(
    name: str, response: dict[str, Any], type_url: str, metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    """An operation that is done; `type_url` is `type.googleapis.com/` and a message's name, or that name alone."""
    operation: dict[str, Any] = {"name": name, "done": True, "response": {"@type": _url(type_url), **response}}
    return operation | ({"metadata": metadata} if metadata else {})


def failed(name: str, code: int, message: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """An operation that ended in an error, by its google.rpc code."""
    operation: dict[str, Any] = {"name": name, "done": True, "error": {"code": code, "message": message}}
    return operation | ({"metadata": metadata} if metadata else {})


def running(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """An operation under way."""
    return {"name": name, "done": False, "metadata": metadata}


def _url(type_url: str) -> str:
    return type_url if "/" in type_url else f"type.googleapis.com/{type_url}"
