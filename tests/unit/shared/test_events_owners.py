"""Who owns the policies of a resource, and how what earlier versions said is read today."""

import asyncio
import importlib
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus import Reject
from shared.bus.fates import Arrival, read
from shared.bus.memory import MemoryBus
from shared.clock import SystemClock, SystemIds
from shared.events import Draft
from shared.events.earlier import OUTDATED, is_outdated, today
from shared.events.states import OWNERS, PolicyState, owner_of
from shared.names import partition_of
from shared.relay import Relay
from shared.state import Step
from shared.state.memory import MemoryState
from tests.support.events import said
from tests.support.parts import memory_parts

REPOSITORY = "projects/acme/locations/local/repositories/web"
NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=20)


def old(policy: PolicyState, source: str = "/services/registry") -> tuple[str, bytes]:
    """The policy as version 1 said it."""
    envelope: dict[str, Any] = orjson.loads(said(policy).content)
    subject = ".".join(["state.policy", *policy.subject().split(".")[3:]])
    return subject, orjson.dumps(envelope | {"subject": subject, "source": source})


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("organizations/entrepot", "identity"),
        ("folders/7", "identity"),
        ("projects/acme", "identity"),
        ("projects/acme/serviceAccounts/ci@acme.iam.entrepot", "identity"),
        (REPOSITORY, "registry"),
        ("projects/acme/attestors/tested", "attestor"),
        ("projects/acme/policy", "attestor"),
    ],
)
def test_each_kind_of_resource_has_one_owner(name: str, owner: str) -> None:
    assert owner_of(name) == owner
    assert PolicyState(project="acme", full_name=name).subject().startswith(f"state.policy.{owner}.acme._.")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "projects",
        "projects/",
        "projects/acme/locations/local",
        "projects/acme/locations/local/repositories",
        "projects/acme/locations/local/repositories/",
        "projects//locations/local/repositories/web",
        f"{REPOSITORY}/images/app",
        "projects/acme/",
        "*/*",
    ],
)
def test_nobody_owns_a_place_that_can_hold_what_others_own(name: str) -> None:
    with pytest.raises(ValueError, match="no service keeps policies"):
        owner_of(name)


@given(st.lists(NAMES, min_size=1, max_size=7))
def test_whatever_is_asked_has_an_owner_of_the_table_or_none(parts: list[str]) -> None:
    name = "/".join(parts)
    try:
        owner = owner_of(name)
    except ValueError:
        return
    assert owner in OWNERS.values()
    assert PolicyState(project="acme", full_name=name).subject().count(".") == 5


@pytest.mark.parametrize("service", sorted(set(OWNERS.values())))
def test_policies_are_set_where_their_owner_answers(service: str) -> None:
    app = importlib.import_module(f"services.{service}.app").build(memory_parts(service).parts).app
    paths = [route.resource.canonical for route in app.router.routes() if route.resource is not None]
    guarded = [path.removesuffix(":setIamPolicy") for path in paths if path.endswith(":setIamPolicy")]
    assert guarded
    for path in guarded:
        resource = re.sub(r"\{[^}]*\}", "x", re.sub(r"^/v\d+[a-z0-9]*/", "", path))
        assert owner_of(resource) == service, path


def test_what_version_1_said_is_read_today_as_its_owner_s_word() -> None:
    policy = PolicyState(project="acme", full_name=REPOSITORY, etag="x")
    subject, content = old(policy)
    assert is_outdated(subject)
    with pytest.raises(Reject, match="belongs on"):
        read(Arrival(subject, content), {PolicyState.topic: PolicyState})
    heard = read(Arrival(*today(subject, content)), {PolicyState.topic: PolicyState})
    assert (heard.event, heard.source) == (policy, "/services/registry")


def test_what_is_said_today_stays_as_it_is() -> None:
    message = said(PolicyState(project="acme", full_name=REPOSITORY))
    assert today(message.subject, message.content) == (message.subject, message.content)
    assert not is_outdated(message.subject)
    assert not is_outdated("state.project.acme._._")
    assert set(OUTDATED) == {"STATE"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"data": 1}', b'{"data": {"full_name": "x"}}'])
def test_what_cannot_be_brought_to_today_is_left_alone(content: bytes) -> None:
    assert today("state.policy.acme._.x", content) == ("state.policy.acme._.x", content)


@given(st.binary(max_size=200), st.text(max_size=60))
def test_no_message_is_too_strange(content: bytes, subject: str) -> None:
    assert today(subject, content) == (subject, content)


@given(project=NAMES, resource=NAMES)
def test_every_policy_of_version_1_finds_its_way(project: str, resource: str) -> None:
    policy = PolicyState(project=project, full_name=f"projects/{project}/attestors/{resource}")
    heard = read(Arrival(*today(*old(policy, "/services/attestor"))), {PolicyState.topic: PolicyState})
    assert heard.event == policy


async def test_what_lay_in_an_outbox_at_an_upgrade_is_said_as_it_is_today() -> None:
    clock, ids = SystemClock(), SystemIds()
    state = MemoryState("registry", clock.monotonic)
    bus = MemoryBus("registry", clock)
    policy = PolicyState(project="acme", full_name=REPOSITORY)
    subject, content = old(policy)
    envelope = {name: value for name, value in orjson.loads(content).items() if name not in {"sequence", "generation"}}
    left = Draft("id", policy.topic, policy.stream, "acme", subject, orjson.dumps(envelope))
    await state.apply(Step(partition_of("acme"), "request", drafts=(left,), counter="policy"))
    relay = asyncio.create_task(Relay(state, bus.publisher, clock, ids).run())
    async with asyncio.timeout(10):
        while not bus.broker.messages("STATE"):  # noqa: ASYNC110 - the bus in memory tells nobody
            await asyncio.sleep(0.01)
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)
    (stored,) = bus.broker.messages("STATE")
    heard = read(Arrival(stored.subject, stored.content), {PolicyState.topic: PolicyState})
    assert (stored.subject, heard.event, heard.generation) == (policy.subject(), policy, 1)
