"""An event is written as JSON in one go, and says what its data says."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Cause, Envelope, Event, draft
from shared.events.audit import AuditActivity
from shared.events.contracts import BY_NAME, TOPICS
from shared.events.document import CONTRACTS
from shared.events.images import ImagePushed, RepositoryState

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
EXAMPLES = sorted((CONTRACTS / "examples").glob("*/*/*.json"))
DIGEST = "sha256:" + "0" * 64


def agree(event: Event) -> None:
    assert orjson.loads(event.content()) == orjson.loads(orjson.dumps(event.data()))


def test_there_are_examples_of_most_topics() -> None:
    seen = {orjson.loads(path.read_bytes()).get("type") for path in EXAMPLES}
    assert len(seen & {topic.event.topic for topic in TOPICS}) > len(TOPICS) // 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_example_is_written_as_it_reads(path: object) -> None:
    envelope = Envelope.parse(path.read_bytes())  # type: ignore[attr-defined]
    topic = BY_NAME.get(envelope.type)
    if topic is None:
        pytest.skip("of an earlier version")
    data = envelope.data | {"project": envelope.data.get("project", envelope.partitionkey)}
    agree(topic.event.model_validate(data))


@given(st.dictionaries(TEXT, JSON, max_size=6), TEXT)
def test_an_audit_entry_is_written_whatever_stands_in_it(entry: dict[str, object], location: str) -> None:
    agree(AuditActivity(project="acme", location=location, producer="registry", entry=entry))


@given(TEXT, st.lists(TEXT, max_size=3), st.booleans(), st.integers(0, 2**63))
def test_a_push_is_written_whatever_was_pushed(
    tag: str,
    platforms: list[str],
    unchanged: bool,  # noqa: FBT001 - drawn
    size: int,
) -> None:
    agree(
        ImagePushed(
            project="acme",
            repository="web",
            image="app",
            digest=DIGEST,
            tag=tag,
            unchanged=unchanged,
            media_type=tag,
            size=size,
            platforms=tuple(platforms),
            uploaded="",
        )
    )


@given(st.dictionaries(TEXT, st.dictionaries(TEXT, JSON, max_size=3), max_size=3))
def test_settings_are_written_whatever_they_hold(policies: dict[str, dict[str, object]]) -> None:
    agree(RepositoryState(project="acme", repository="web", cleanup_policies=policies))


@given(st.dictionaries(TEXT, JSON, max_size=6))
def test_a_finished_envelope_reads_as_what_was_said(entry: dict[str, object]) -> None:
    event = AuditActivity(project="acme", producer="registry", entry=entry)
    made = draft(event, producer="registry", cause=Cause("c", "a", "t"), position=0, time="now")
    read = Envelope.parse(made.finished(3, 4))
    assert (read.id, read.type, read.sequence, read.generation) == (made.id, event.topic, 3, 4)
    assert orjson.loads(made.finished(3, 4))["data"] == orjson.loads(event.content())
