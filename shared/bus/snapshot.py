"""A view's facts in a local file, so that a replica can start while the bus is away."""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError


class _Head(BaseModel):
    model_config = ConfigDict(frozen=True)

    stream: str
    created: str
    position: int
    facts: int


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True)

    subject: str
    content: str


@dataclass(frozen=True)
class Snapshot:
    """What was known at one position of one stream."""

    stream: str
    created: str
    """When the stream was made: a stream that was made anew counts from 1 again."""
    position: int
    facts: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    """Content by subject, oldest first."""
    confirmed: float = 0.0
    """Wall time at which nothing was missing."""


def write(path: Path, snapshot: Snapshot) -> None:
    """Replace the file, whole or not at all."""
    head = {
        "stream": snapshot.stream,
        "created": snapshot.created,
        "position": snapshot.position,
        "facts": len(snapshot.facts),
    }
    made = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(orjson.dumps(head) + b"\n")
        for subject, content in snapshot.facts.items():
            fact = {"subject": subject, "content": base64.b64encode(content).decode()}
            file.write(orjson.dumps(fact) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.utime(made, (snapshot.confirmed, snapshot.confirmed))
    made.replace(path)


def confirm(path: Path, now: float) -> None:
    """Nothing was missing at `now` either: the file's own time says so."""
    if path.exists():
        os.utime(path, (now, now))


def read(path: Path) -> Snapshot | None:
    """The snapshot in the file; None where there is none, or none that is whole."""
    try:
        first, *lines = path.read_bytes().splitlines()
        head = _Head.model_validate_json(first)
        facts = [_Fact.model_validate_json(line) for line in lines]
        contents = {fact.subject: base64.b64decode(fact.content, validate=True) for fact in facts}
        confirmed = path.stat().st_mtime
    except (OSError, ValueError, ValidationError):
        return None
    if len(contents) != head.facts:
        return None
    return Snapshot(head.stream, head.created, head.position, contents, confirmed)
