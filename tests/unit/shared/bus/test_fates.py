"""Reading messages and judging what became of them."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.blobs.face import BucketUnavailable
from shared.bus import BusUnavailable, Handler, Later, Reject
from shared.bus.fates import MOST_FAILURES, Again, Arrival, Dead, Handled, delay_after, fate_of, read
from shared.events import Event
from shared.events.audit import AuditActivity
from shared.events.images import GcrNotification, ImageUntagged
from shared.state.face import Moved, StateUnavailable
from tests.support.events import said

EVENT = ImageUntagged(project="acme", repository="web", image="app", tag="v1", digest="sha256:0")


def failing(error: Exception) -> Handler[Any]:
    async def fail(_heard: object) -> None:
        raise error

    return fail


def arrival(delivery: int = 1) -> Arrival:
    message = said(EVENT)
    return Arrival(message.subject, message.content, delivery)


@given(st.binary() | st.text().map(str.encode))
def test_bytes_are_an_event_or_are_rejected(content: bytes) -> None:
    with pytest.raises(Reject):
        read(Arrival("image.untagged.acme._.web", content), {"image.untagged": ImageUntagged})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "type", "data", "subject"]), inner),
    )
)
def test_json_is_an_event_or_is_rejected(value: object) -> None:
    import json  # noqa: PLC0415

    with pytest.raises(Reject):
        read(Arrival("image.untagged.acme._.web", json.dumps(value).encode()), {"image.untagged": ImageUntagged})


def test_a_rejection_repeats_nothing_of_what_it_rejects() -> None:
    secret = said(EVENT).content.replace(b'"v1"', b'["s3cr3t"]')
    with pytest.raises(Reject) as found:
        read(Arrival(said(EVENT).subject, secret), {"image.untagged": ImageUntagged})
    assert "tag" in str(found.value)
    assert "s3cr3t" not in str(found.value)


def altered(event: Event, **fields: object) -> Arrival:
    envelope = orjson.loads(said(event).content) | fields
    return Arrival(envelope["subject"], orjson.dumps(envelope))


def test_what_a_message_is_about_is_what_its_subject_says() -> None:
    for data in ({"project": "other"}, {"repository": "else"}, {"location": "elsewhere"}):
        with pytest.raises(Reject, match="belongs on"):
            read(altered(EVENT, data=EVENT.data() | data), {"image.untagged": ImageUntagged})


def test_an_audit_entry_is_nobody_elses_than_its_subject_says() -> None:
    entry = AuditActivity(project="acme", producer="registry", entry={})
    kinds: dict[str, type[Event]] = {"audit.activity": AuditActivity}
    assert read(altered(entry), kinds).source == "/services/registry"
    assert read(altered(entry, source="/services/registry/journal/0"), kinds).event == entry
    for source in ("/services/identity", "/services/registry2", "registry", "", "/services/"):
        with pytest.raises(Reject, match="in the name of registry"):
            read(altered(entry, source=source), kinds)
    with pytest.raises(Reject, match="belongs on"):
        read(altered(entry, data=entry.data() | {"producer": "identity"}), kinds)


def test_googles_notification_is_googles_three_fields() -> None:
    event = GcrNotification(project="acme", repository="web", action="DELETE", tag="host/acme/web/app:1")
    assert event.data() == {"action": "DELETE", "tag": "host/acme/web/app:1"}
    assert event.subject() == "gcr.acme._.web"
    heard = read(Arrival(said(event).subject, said(event).content), {"gcr": GcrNotification})
    assert heard.event.tag == "host/acme/web/app:1"


async def test_a_handler_that_returns_has_handled() -> None:
    async def take(_heard: object) -> None: ...

    assert await fate_of(arrival(), ImageUntagged, take) == Handled()


@pytest.mark.parametrize("delivery", [1, 2, 3, 4, 5, 6, 500])
@pytest.mark.parametrize(
    "error",
    [StateUnavailable(), BusUnavailable(), BucketUnavailable(), Moved(), ConnectionError(), TimeoutError(), OSError()],
)
async def test_what_is_away_is_waited_for_without_end(error: Exception, delivery: int) -> None:
    fate = await fate_of(arrival(delivery), ImageUntagged, failing(error))
    assert isinstance(fate, Again)
    assert fate.seconds == delay_after(delivery) >= 1


async def test_delays_grow() -> None:
    assert [delay_after(n) for n in range(8)] == [1, 1, 5, 30, 120, 600, 600, 600]


async def test_a_bug_is_retried_for_a_while_and_then_given_up() -> None:
    assert isinstance(await fate_of(arrival(MOST_FAILURES - 1), ImageUntagged, failing(KeyError("x"))), Again)
    fate = await fate_of(arrival(MOST_FAILURES), ImageUntagged, failing(KeyError("x")))
    assert fate == Dead(f"failed {MOST_FAILURES} times, last: KeyError: 'x'")


async def test_reject_and_later_are_obeyed() -> None:
    assert await fate_of(arrival(), ImageUntagged, failing(Reject("never"))) == Dead("never")
    assert await fate_of(arrival(), ImageUntagged, failing(Later("soon", 7))) == Again(7, "soon")


async def test_what_a_handler_cannot_validate_is_dead_at_once() -> None:
    class Thing(BaseModel):
        size: int

    async def take(_heard: object) -> None:
        Thing.model_validate({"size": "s3cr3t"})

    fate = await fate_of(arrival(), ImageUntagged, take)
    assert isinstance(fate, Dead)
    assert "size" in fate.reason
    assert "s3cr3t" not in fate.reason
