"""Rights on a real bus: a service that was taken over says nothing in another's name, and hides nothing."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from nats.errors import Error
from nats.errors import TimeoutError as NoAnswer
from prometheus_client import CollectorRegistry

from infra.nats.provision import Act, Provisioner, provision
from infra.nats.topology import ADMINISTRATOR, Topology
from shared.bus import Message
from shared.bus.dead import LetterUnknown
from shared.bus.jetstream import Options
from shared.clock import SystemClock
from shared.events.contracts import SERVICES, TOPICS
from shared.events.images import ImageUntagged
from shared.events.states import Binding, GroupState, PolicyState
from shared.identity.directory import Directory
from tests.support.bus import NatsWorld, a_nats_world, until
from tests.support.events import said

SAME_SIZES = Topology(sizes={"JOBS": 40_000})
REPOSITORY = "projects/acme/locations/local/repositories/web"
ALL = (Binding(role="roles/owner", members=("user:mallory@example.com",)),)


@pytest.fixture
async def bus() -> AsyncIterator[NatsWorld]:
    async with a_nats_world() as made:
        yield made


def policy(full_name: str, generation: int = 1, producer: str = "registry") -> Message:
    fact = PolicyState(project="acme", full_name=full_name, bindings=ALL)
    return said(fact, cause=f"{full_name}{generation}", producer=producer, generation=generation)


def old(message: Message) -> Message:
    """The same as version 1 said it, without the owner in the subject."""
    subject = ".".join(["state.policy", *message.subject.split(".")[3:]])
    content = orjson.dumps(orjson.loads(message.content) | {"subject": subject})
    return Message(f"old {message.id}", subject, content)


async def _directory(world: NatsWorld, registry: CollectorRegistry | None = None) -> Directory:
    found = Directory(SystemClock().now)
    made = world.bus_with("scanner", Options(over=world.over.append, registry=registry))
    view = found.follow(made)
    await made.start()
    await until(lambda: view.caught_up)
    return found


async def _refused(world: NatsWorld, user: str, subject: str, content: bytes = b"{}") -> bool:
    client = await world.client(user)
    try:
        await client.request(subject, content, timeout=0.4)
    except (NoAnswer, Error):
        return True
    finally:
        await client.close()
    return False


@pytest.mark.parametrize("service", ["registry", "attestor", "scanner"])
@pytest.mark.parametrize("owned", ["organizations/entrepot", "projects/acme", "projects/acme/serviceAccounts/x@y"])
async def test_no_service_but_identity_announces_what_is_identity_s(bus: NatsWorld, service: str, owned: str) -> None:
    message = policy(owned, producer=service)
    assert await _refused(bus, service, message.subject, message.content)
    assert not await _refused(bus, "identity", message.subject, message.content)


async def test_of_each_topic_only_those_who_say_it_can_say_it(bus: NatsWorld) -> None:
    clients = {service: await bus.client(service) for service in SERVICES}

    async def may(service: str, subject: str) -> bool:
        try:
            answer = await clients[service].request(subject, b"{}", timeout=0.3)
        except (NoAnswer, Error):
            return False
        return b'"seq"' in answer.data

    for topic in TOPICS:
        tried = {
            (service, name): f"{topic.name}.{name}." + ("acme" if topic.event.stream == "AUDIT" else "acme._.x")
            if topic.event.in_own_name
            else f"{topic.name}.acme._.{service}"
            for service in SERVICES
            for name in (SERVICES if topic.event.in_own_name else [service])
        }
        could = await asyncio.gather(*(may(service, subject) for (service, _), subject in tried.items()))
        assert {pair for pair, yes in zip(tried, could, strict=True) if yes} == {
            (service, service) for service in topic.said_by
        }, topic.name


async def test_a_policy_on_ones_own_subject_about_anothers_resource_is_refused_and_counted(bus: NatsWorld) -> None:
    counted = CollectorRegistry()
    directory = await _directory(bus, counted)
    forged = policy("projects/acme", generation=99)
    for subject in (
        "state.policy.registry.acme._.projects%2Facme",
        "state.policy.registry.acme._.projects%2Facme%2Flocations%2Flocal%2Frepositories%2Fweb",
    ):
        content = orjson.dumps(orjson.loads(forged.content) | {"subject": subject})
        await bus.bus("registry").publisher.publish([Message(subject, subject, content)])
    await bus.bus("registry").publisher.publish([policy(REPOSITORY)])
    await until(lambda: directory.policy(REPOSITORY))
    assert directory.policy("projects/acme") is None
    refused = counted.get_sample_value(
        "entrepot_bus_facts_refused_total", {"service": "scanner", "topic": "state.policy"}
    )
    # The second of these subjects has had a better word since, or was heard before that came.
    assert refused in {1.0, 2.0}


@pytest.mark.parametrize(
    "headers",
    [
        {"Status": "404"},
        {"Status": "204", "Nats-Num-Pending": "0"},
        {"Status": "503", "Description": "gone"},
        {"Nats-Sequence": "1", "Nats-Subject": "state.group.acme._.b"},
        {"Nats-Sequence": "x"},
    ],
    ids=str,
)
async def test_no_header_of_a_producer_hides_or_moves_what_lies_in_a_stream(
    bus: NatsWorld, headers: dict[str, str]
) -> None:
    client = await bus.client("registry")
    trick = policy(REPOSITORY)
    await client.request(trick.subject, trick.content, headers=headers, timeout=2)
    await client.close()
    later = said(GroupState(project="acme", email="a", members=("user:b",)), producer="identity")
    await bus.bus("identity").publisher.publish([later])
    directory = await _directory(bus)
    assert directory.group("a")
    assert directory.policy(REPOSITORY)


async def test_a_service_puts_to_the_dead_letters_only_what_it_hears(bus: NatsWorld) -> None:
    for subject in (
        "dead.registry.state.policy.identity.acme._.projects%2Facme",
        "dead.registry.scan.completed.acme._.web",
        "dead.scanner.image.pushed.acme._.web",
        "dead.registry.cleanup.requested.cleanup.acme._.web",
    ):
        assert await _refused(bus, "registry", subject)
    assert not await _refused(bus, "registry", "dead.registry.referrer.requested.acme._.web")
    assert await _refused(bus, "operator", "state.policy.identity.acme._.projects%2Facme")


async def test_a_dead_letter_that_nobody_ever_said_is_not_said_again(bus: NatsWorld) -> None:
    event = ImageUntagged(project="acme", repository="web", image="app", tag="v1", digest="sha256:0")
    real, forged = said(event, cause="real"), said(event, cause="forged")
    await bus.bus("registry").publisher.publish([real])
    client = await bus.client("cleanup")
    for position in ("1", "77"):
        headers = {"Entrepot-Stream": "EVENTS", "Entrepot-Number": position, "Entrepot-Service": "cleanup"}
        await client.request(f"dead.cleanup.{forged.subject}", forged.content, headers=headers, timeout=2)
    letters = bus.dead()
    for number in (1, 2):
        assert (await letters.show(number)).content == forged.content
        with pytest.raises(LetterUnknown):
            await letters.redrive(number)
    headers = {"Entrepot-Stream": "EVENTS", "Entrepot-Number": "1", "Entrepot-Service": "cleanup"}
    await client.request(f"dead.cleanup.{real.subject}", real.content, headers=headers, timeout=2)
    await letters.redrive(3)
    assert await bus.stored("EVENTS") == [real.subject] * 2


# Upgrades.


async def test_policies_of_an_earlier_version_are_moved_to_their_owners(bus: NatsWorld) -> None:
    owned = {name: policy(name, 7, who) for name, who in (("projects/acme", "identity"), (REPOSITORY, "registry"))}
    administrator = await bus.client(ADMINISTRATOR)
    for message in map(old, owned.values()):
        await administrator.jetstream().publish(message.subject, message.content)
    assert (await _directory(bus)).policy(REPOSITORY) is None

    planned = await Provisioner(administrator).plan(SAME_SIZES.streams(), SAME_SIZES.durables())
    assert [(change.act, change.stream) for change in planned] == [(Act.MOVE, "STATE")]
    assert str(planned[0]) == "move 2 facts of STATE to the subjects of this version"
    await provision(administrator, SAME_SIZES)
    assert await Provisioner(administrator).plan(SAME_SIZES.streams(), SAME_SIZES.durables()) == []
    assert sorted(await bus.stored("STATE")) == sorted(message.subject for message in owned.values())

    directory = await _directory(bus)
    for name in owned:
        found = directory.policy(name)
        assert found is not None
        assert found.bindings == ALL
    assert {generation for _, generation in directory.facts()} == {7}


async def test_a_move_that_was_interrupted_goes_on_and_takes_nothing_back(bus: NatsWorld) -> None:
    administrator = await bus.client(ADMINISTRATOR)
    before, since = policy(REPOSITORY, 7), policy(REPOSITORY, 8)
    await administrator.jetstream().publish(old(before).subject, old(before).content)
    await bus.bus("registry").publisher.publish([since])
    await provision(administrator, SAME_SIZES)
    assert await bus.stored("STATE") == [since.subject]
    assert [generation for _, generation in (await _directory(bus)).facts()] == [8]


async def test_what_nobody_owns_is_not_moved_and_not_believed(bus: NatsWorld) -> None:
    administrator = await bus.client(ADMINISTRATOR)
    await administrator.jetstream().publish("state.policy.acme._.x", b"{}")
    await provision(administrator, SAME_SIZES)
    assert await bus.stored("STATE") == ["state.policy.acme._.x"]
    assert list((await _directory(bus)).facts()) == []
