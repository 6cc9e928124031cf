"""Rights on the bus, as the topic table gives them."""

import json
from pathlib import Path

import bcrypt
import pytest
from pydantic import ValidationError

from infra.nats.accounts import OPERATOR, service_user, users
from infra.nats.passwords import Passwords
from infra.nats.server import Listening, configuration, write_configuration
from infra.nats.topology import Subscriber, Topology
from shared.clock import SystemIds
from shared.events.contracts import BY_NAME, SERVICES, TOPICS, durable_of
from shared.events.states import OWNERS
from shared.settings import SettingsWrong


def test_a_service_may_say_its_own_topics_and_no_others() -> None:
    for service in SERVICES:
        may = set(service_user(service).publish)
        for topic in TOPICS:
            assert (topic.subjects in may) == (service in topic.said_by and not topic.event.in_own_name)
            said = {right for right in may if right.startswith(f"{topic.name}.")}
            assert said == ({topic.said_as(service)} if service in topic.said_by else set())


def test_every_right_to_publish_follows_from_the_topic_table() -> None:
    """What is neither a topic, nor a durable of its own, nor a stream that it views, nor its own dead letters."""
    for service in SERVICES:
        known = {topic.said_as(service) for topic in TOPICS if service in topic.said_by}
        for topic in TOPICS:
            if service in topic.work:
                durable = f"{topic.event.stream}.{durable_of(service, topic.event)}"
                known |= {f"$JS.API.CONSUMER.{call}.{durable}" for call in ("INFO", "MSG.NEXT")}
                known |= {f"$JS.ACK.{durable}.>", f"dead.{service}.{topic.heard_by(service)}"}
            if service in topic.views:
                known |= {f"$JS.API.{call}.{topic.event.stream}" for call in ("STREAM.INFO", "DIRECT.GET")}
        assert set(service_user(service).publish) == known


def test_each_owner_announces_policies_in_its_own_name_only() -> None:
    rights = {
        service: [right for right in service_user(service).publish if right.startswith("state.policy.")]
        for service in SERVICES
    }
    assert {service: said for service, said in rights.items() if said} == {
        service: [f"state.policy.{service}.*.*.*"] for service in BY_NAME["state.policy"].said_by
    }


def test_what_more_than_one_service_says_as_a_fact_names_who_says_it() -> None:
    for topic in TOPICS:
        if topic.event.stream == "STATE" and len(topic.said_by) > 1:
            assert topic.event.in_own_name, topic.name
    assert set(OWNERS.values()) == set(BY_NAME["state.policy"].said_by)


def test_the_operator_says_again_only_what_can_be_a_dead_letter() -> None:
    operator = next(user for user in users() if user.name == OPERATOR)
    said = {right for right in operator.publish if not right.startswith("$")}
    assert said == {topic.subjects for topic in TOPICS if topic.work}
    assert not any(right.startswith("state.") for right in said)


def test_an_audit_entry_can_be_written_in_ones_own_name_only() -> None:
    assert {right for right in service_user("registry").publish if right.startswith("audit.")} == {
        f"audit.{kind}.registry.*" for kind in ("activity", "access", "system", "denied")
    }


def test_only_the_provisioner_may_change_streams_or_make_consumers() -> None:
    for user in users():
        rights = " ".join(user.publish)
        powerful = ">" in user.publish
        assert powerful == (user.name == "provisioner")
        if not powerful:
            for call in ("STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.PURGE", "CONSUMER.CREATE"):
                assert call not in rights


def test_nobody_may_listen_to_anothers_inbox() -> None:
    for user in users():
        inboxes = [subject for subject in user.subscribe if subject.startswith("_INBOX")]
        assert user.name == "provisioner" or inboxes == [f"_INBOX_{user.name}.>"]


def test_a_service_hears_only_what_it_views() -> None:
    assert "image.pushed.>" not in service_user("scanner").subscribe
    assert "$JS.API.DIRECT.GET.EVENTS" not in service_user("scanner").publish
    assert "$JS.API.CONSUMER.MSG.NEXT.EVENTS.scanner-image-pushed" in service_user("scanner").publish


def test_every_topic_lies_in_exactly_one_stream() -> None:
    streams = Topology().streams()
    for topic in TOPICS:
        assert [one["name"] for one in streams if topic.subjects in one["subjects"]] == [topic.event.stream]


def test_an_addressed_topics_durable_hears_its_own_address() -> None:
    filters = {config["name"]: config["filter_subject"] for _, config in Topology().durables()}
    assert filters["registry-cleanup-requested"] == "cleanup.requested.registry.>"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Acme"},
        {"name": "a.b"},
        {"topics": ("audit.activity",)},
        {"topics": ("state.account",)},
        {"topics": (">",)},
        {"topics": ()},
        {"projects": ("*",)},
        {"projects": ("acme.>",)},
        {"projects": ()},
        {"more": 1},
    ],
)
def test_an_outside_subscriber_is_limited_to_events_of_named_projects(wrong: dict[str, object]) -> None:
    right = {"name": "acme", "projects": ("acme",), "topics": ("image.pushed",)}
    Subscriber.model_validate(right)
    with pytest.raises(ValidationError):
        Subscriber.model_validate(right | wrong)


def test_the_configuration_syncs_every_write_and_holds_no_password(tmp_path: Path) -> None:
    passwords = Passwords(tmp_path / "passwords", SystemIds())
    subscriber = Subscriber(name="acme", projects=("acme",), topics=("image.pushed",))
    text = configuration(Listening(tmp_path / "store"), passwords, [subscriber])
    whole = json.loads(text)
    assert whole["jetstream"]["sync_interval"] == "always"
    assert whole["listen"].startswith("127.0.0.1:")
    assert whole["http"].startswith("127.0.0.1:")
    for account in whole["accounts"].values():
        for user in account["users"]:
            password = passwords.of(user["user"])
            assert password not in text
            assert len(password) == 43
            assert bcrypt.checkpw(password.encode(), user["password"].encode())


def test_files_are_the_owners_alone_and_made_once(tmp_path: Path) -> None:
    passwords = Passwords(tmp_path / "passwords", SystemIds())
    listening = Listening(tmp_path / "store")
    assert write_configuration(tmp_path / "nats.json", listening, passwords)
    assert not write_configuration(tmp_path / "nats.json", listening, passwords)
    made = [tmp_path / "nats.json", *(tmp_path / "passwords").iterdir()]
    assert {file.stat().st_mode & 0o777 for file in made} == {0o600}
    assert len({file.read_text() for file in made}) == len(made)


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    passwords = Passwords(tmp_path, SystemIds())
    passwords.of("scanner")
    passwords.path("scanner").chmod(0o644)
    with pytest.raises(SettingsWrong):
        passwords.of("scanner")
