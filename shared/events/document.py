"""Publishes the contracts: `python -m shared.events.document` rewrites schemas, topic files and `docs/events.md`.

The event classes and the table of topics are the source; what is written here is for readers who have only JSON.
"""

import ast
import inspect
import itertools
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import orjson
from pydantic import BaseModel, ConfigDict

from shared.bus.streams import DAY, STREAMS, Keeps
from shared.events.contracts import TOPICS, Topic
from shared.events.envelope import Envelope

ROOT = Path(__file__).parents[2]
CONTRACTS = ROOT / "shared" / "contracts"
PAGE = ROOT / "docs" / "events.md"


class TopicFile(BaseModel):
    """What `topics/<topic>.yaml` says of one topic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str
    says: str
    stream: str
    retention: str
    subject: str
    producers: tuple[str, ...]
    workers: tuple[str, ...]
    views: tuple[str, ...]
    versions: tuple[int, ...]
    example: str


def schema_name(topic: Topic) -> str:
    """The schema's file name, as `dataschema` in the envelope names it."""
    return f"{topic.name}.v{topic.event.schema_version}.schema.json"


def schema_of(topic: Topic) -> dict[str, Any]:
    """The JSON Schema of a topic's `data`: what a consumer may rely on, open for what comes later."""
    schema = topic.event.model_json_schema()
    for name, told in descriptions_of(topic.event).items():
        schema["properties"][name]["description"] = told
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"/schemas/{schema_name(topic)}",
        **schema,
    }


def descriptions_of(event: type[BaseModel]) -> dict[str, str]:
    """What stands under each field in the source, of the class and those above it."""
    found: dict[str, str] = {}
    for kind in reversed(event.__mro__):
        if kind is not BaseModel and issubclass(kind, BaseModel):
            body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
            found |= _described(body.body if isinstance(body, ast.ClassDef) else [])
    return {name: told for name, told in found.items() if name in event.model_fields}


def _described(statements: Sequence[ast.stmt]) -> dict[str, str]:
    return {
        field.target.id: " ".join(inspect.cleandoc(told.value.value).split())
        for field, told in itertools.pairwise(statements)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(told, ast.Expr)
        and isinstance(told.value, ast.Constant)
        and isinstance(told.value.value, str)
    }


def envelope_schema() -> dict[str, Any]:
    """The JSON Schema of the envelope that all events travel in."""
    schema = Envelope.model_json_schema()
    for name, told in descriptions_of(Envelope).items():
        schema["properties"][name]["description"] = told
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "/schemas/envelope.schema.json", **schema}


def topic_file_of(topic: Topic) -> TopicFile:
    """What a topic's file says."""
    rest = "<owner>.<project>.<location>.<resource>" if topic.addressed else "<project>.<location>.<resource>"
    if topic.event.in_own_name:
        rest = "<producer>.<project>" if topic.event.stream == "AUDIT" else f"<producer>.{rest}"
    version = topic.event.schema_version
    return TopicFile(
        topic=topic.name,
        says=sentence_of(topic),
        stream=topic.event.stream,
        retention=retention_of(topic.event.stream),
        subject=f"{topic.name}.{rest}",
        producers=tuple(topic.said_by),
        workers=tuple(topic.work),
        views=tuple(topic.views),
        versions=tuple(range(1, version + 1)),
        example=f"examples/{topic.name}/{version}/",
    )


def sentence_of(topic: Topic) -> str:
    """The first sentence of the event's docstring."""
    return " ".join((topic.event.__doc__ or "").strip().split("\n\n")[0].split())


def retention_of(stream: str) -> str:
    """How long a stream keeps what was said, in words."""
    kind = STREAMS[stream]
    match kind.keeps:
        case Keeps.WORK:
            return "until done"
        case Keeps.LAST:
            return "the last word on each thing, for ever"
        case Keeps.HISTORY:
            days = round(kind.seconds / DAY)
            return f"{days} days" if days > 1 else "1 day"


def as_yaml(entry: TopicFile) -> str:
    """A topic file's text. JSON strings and lists are YAML too, so that nothing here needs a library."""
    return "".join(f"{name}: {orjson.dumps(value).decode()}\n" for name, value in entry.model_dump(mode="json").items())


def page() -> str:
    """The page `docs/events.md`."""
    lines = [*_PREFACE, "", "| stream | says | keeps |", "|---|---|---|"]
    lines += [f"| {kind.name} | {kind.says} | {retention_of(kind.name)} |" for kind in STREAMS.values()]
    for stream in dict.fromkeys(topic.event.stream for topic in TOPICS):
        lines += ["", f"## {stream}"]
        for topic in TOPICS:
            if topic.event.stream == stream:
                lines += _section(topic)
    return "\n".join(lines) + "\n"


_PREFACE = (
    "# Events",
    "",
    "Made by `python -m shared.events.document` from the event classes; change those, not this page.",
    "",
    "Every event is a CloudEvents 1.0 JSON object. Its `data` is what the topic's table below says; schemas and",
    "examples lie in [`shared/contracts`](../shared/contracts). Fields at their default are left out.",
    "Unknown fields are to be ignored. An event comes at least once, per subject in order, and its `id` stays the same",
    "each time. `sequence` counts without a gap per `source`, `type` and project. `generation` counts the resource's",
    "changes: an event with a smaller one than has been seen is late. In subjects `%`, `.`, `*`, `>`, `/`, space and",
    "what is not ASCII are percent-encoded, and `_` stands where there is nothing.",
)


def _section(topic: Topic) -> list[str]:
    entry = topic_file_of(topic)
    parties = [f"Said by {_names(entry.producers)}."]
    if entry.workers:
        parties.append(f"Worked on by {_names(entry.workers)}.")
    if entry.views:
        parties.append(f"Heard whole by every replica of {_names(entry.views)}.")
    lines = ["", f"### `{topic.name}`", "", entry.says, "", f"Subject `{entry.subject}`. {' '.join(parties)}"]
    schema = schema_of(topic)
    properties: Mapping[str, Mapping[str, Any]] = schema["properties"]
    lines += ["", "| field | type | |", "|---|---|---|"]
    required: Sequence[str] = schema.get("required", [])
    for name, each in properties.items():
        told = [each.get("description", ""), *([] if name in required else ["May be absent."])]
        lines.append(f"| `{name}` | {_type(each)} | {' '.join(filter(None, told))} |")
    return lines


def _names(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", "-") for name in names)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    inner: Any = schema.get("additionalProperties")
    if schema.get("type") == "object" and isinstance(inner, Mapping):
        return f"map to {_type(cast('Mapping[str, Any]', inner))}"
    return str(schema.get("type", "any"))


def files() -> dict[Path, str]:
    """Every published file that is made from the code, with its content."""
    made = {CONTRACTS / "schemas" / "envelope.schema.json": _json(envelope_schema()), PAGE: page()}
    for topic in TOPICS:
        made[CONTRACTS / "schemas" / schema_name(topic)] = _json(schema_of(topic))
        made[CONTRACTS / "topics" / f"{topic.name}.yaml"] = as_yaml(topic_file_of(topic))
    return made


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def main() -> int:
    """Write what has changed."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
