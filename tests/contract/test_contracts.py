"""The published contracts against the code: schemas, topic files, examples and their page."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from shared.bus.fates import Arrival, read
from shared.bus.streams import STREAMS
from shared.events import Envelope, Event
from shared.events.contracts import BY_NAME, SERVICES, TOPICS, Topic, topic_of
from shared.events.document import CONTRACTS, ROOT, files, schema_name, schema_of
from shared.events.earlier import today

EXAMPLES = sorted((CONTRACTS / "examples").glob("*/*/*.json"))


def named(path: Path) -> str:
    return str(path.relative_to(CONTRACTS))


def subclasses(kind: type[Event]) -> set[type[Event]]:
    below = {one for direct in kind.__subclasses__() for one in subclasses(direct)}
    return ({kind} if "topic" in kind.__dict__ and kind.__module__.startswith("shared.") else set()) | below


@pytest.mark.parametrize(("path", "text"), files().items(), ids=lambda value: getattr(value, "name", ""))
def test_what_is_published_is_what_the_code_says(path: Path, text: str) -> None:
    if os.environ.get("UPDATE_CONTRACTS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"run UPDATE_CONTRACTS=1 pytest tests/contract: {path} is missing"
    assert path.read_text(encoding="utf-8") == text, "run UPDATE_CONTRACTS=1 pytest tests/contract"


def test_nothing_else_is_published() -> None:
    published = {path for folder in ("schemas", "topics") for path in (CONTRACTS / folder).iterdir()}
    earlier = {path for path in published if path.name.split(".v")[0] in BY_NAME and ".v" in path.name}
    assert published - earlier <= set(files())


def test_every_event_is_in_the_table() -> None:
    assert subclasses(Event) == {topic.event for topic in TOPICS}


def test_topics_say_known_things_of_known_services() -> None:
    for topic in TOPICS:
        assert topic.event.stream in STREAMS
        assert {*topic.said_by, *topic.work, *topic.views} <= set(SERVICES)
        assert topic.said_by
        assert topic.event.__doc__


def test_work_of_a_queue_has_one_hearer() -> None:
    for topic in TOPICS:
        if topic.event.stream in {"JOBS", "AUDIT"} and not topic.addressed:
            assert len(topic.work) == 1, topic.name


def test_no_topic_lies_within_another() -> None:
    # Subjects of two streams may not overlap, and a durable of the shorter one would hear the longer one too.
    for topic in TOPICS:
        assert [other.name for other in TOPICS if other.name.startswith(f"{topic.name}.")] == []


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_file_is_yaml_and_its_example_exists(topic: Topic) -> None:
    entry: dict[str, Any] = yaml.safe_load((CONTRACTS / "topics" / f"{topic.name}.yaml").read_text())
    assert entry["topic"] == topic.name
    assert entry["producers"] == list(topic.said_by)
    for version in entry["versions"]:
        assert list((CONTRACTS / "examples" / topic.name / str(version)).glob("*.json"))
        assert (CONTRACTS / "schemas" / f"{topic.name}.v{version}.schema.json").exists()


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_an_example_is_understood_today(path: Path) -> None:
    content = path.read_bytes()
    envelope = Envelope.parse(content)
    topic = topic_of(envelope.subject)
    assert topic is not None
    assert topic.name == envelope.type == path.parts[-3]
    heard = read(Arrival(*today(envelope.subject, content)), {topic.name: topic.event})
    assert heard.id == envelope.id


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_an_example_agrees_with_the_schemas_of_its_version(path: Path) -> None:
    example = json.loads(path.read_bytes())
    schemas = CONTRACTS / "schemas"
    Draft202012Validator(json.loads((schemas / "envelope.schema.json").read_bytes())).validate(example)
    schema = json.loads((schemas / f"{path.parts[-3]}.v{path.parts[-2]}.schema.json").read_bytes())
    Draft202012Validator(schema).validate(example["data"])
    assert example["dataschema"] == f"/schemas/{path.parts[-3]}.v{path.parts[-2]}.schema.json"


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_unknown_fields_of_a_newer_producer_are_ignored(topic: Topic) -> None:
    path = max((CONTRACTS / "examples" / topic.name).glob("*/*.json"))
    example = json.loads(path.read_bytes())
    example["data"]["something_new"] = {"deep": [1]}
    example["newextension"] = "x"
    Draft202012Validator(schema_of(topic)).validate(example["data"])
    read(Arrival(example["subject"], json.dumps(example).encode()), {topic.name: topic.event})


def test_published_examples_and_old_schemas_never_change() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    base = _base(git)
    if base is None:
        pytest.skip("no main branch to compare with")
    changed = _git(git, "diff", "--name-only", "--diff-filter=MDR", base, "--", "shared/contracts/examples").split()
    assert changed == [], "examples are append-only: add one, leave those that are out there"
    current = {schema_name(topic) for topic in TOPICS}
    schemas = _git(git, "diff", "--name-only", "--diff-filter=DR", base, "--", "shared/contracts/schemas").split()
    assert [name for name in schemas if Path(name).name not in current] == []


def _base(git: str) -> str | None:
    for name in ("origin/main", "main"):
        found = subprocess.run([git, "merge-base", "HEAD", name], cwd=ROOT, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    return None


def _git(git: str, *arguments: str) -> str:
    return subprocess.run([git, *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
