"""The server's configuration file: every write synced, accounts with least rights, the monitor on loopback."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.nats.accounts import User, administrator, subscriber_user, users
from infra.nats.passwords import Passwords, write_secret
from infra.nats.topology import Subscriber

SERVICES_ACCOUNT = "ENTREPOT"

_CREATES = ("$JS.API.CONSUMER.CREATE.EVENTS", "$JS.API.CONSUMER.CREATE.EVENTS.>")
_FLOW = "$JS.FC.EVENTS.>"


@dataclass(frozen=True)
class Listening:
    """Where the server is reached and where its data lies."""

    store: Path
    listen: str = "127.0.0.1:4222"
    monitor: str = "127.0.0.1:8222"
    certificate: Path | None = None
    key: Path | None = None
    name: str = "entrepot"
    locations: Sequence[str] = ()
    """Where there are several, all of them."""


def write_configuration(
    path: Path, listening: Listening, passwords: Passwords, subscribers: Sequence[Subscriber] = ()
) -> bool:
    """Write the file, mode 0600; answers whether anything changed. Passwords that are missing are made."""
    text = configuration(listening, passwords, subscribers)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(path, text)
    return True


def configuration(listening: Listening, passwords: Passwords, subscribers: Sequence[Subscriber] = ()) -> str:
    """The configuration as text. It is JSON, which the server reads too."""
    accounts = {SERVICES_ACCOUNT: _services(passwords, subscribers, listening.locations)}
    accounts |= {one.account: _outside(one, passwords) for one in subscribers}
    whole: dict[str, Any] = {
        "server_name": listening.name,
        "listen": listening.listen,
        "http": listening.monitor,
        "max_payload": 1024 * 1024,
        "jetstream": {"store_dir": str(listening.store), "sync_interval": "always"},
        "accounts": accounts,
    }
    if listening.certificate is not None:
        whole["tls"] = {"cert_file": str(listening.certificate), "key_file": str(listening.key)}
    return json.dumps(whole, indent=1) + "\n"


def _services(passwords: Passwords, subscribers: Sequence[Subscriber], locations: Sequence[str]) -> dict[str, Any]:
    account: dict[str, Any] = {"jetstream": "enabled", "users": [_user(user, passwords) for user in users(locations)]}
    named = [one.account for one in subscribers]
    if named:
        # What a copy needs in order to be made; the outside user itself may publish on none of these.
        account["exports"] = [
            *({"service": subject, "accounts": named, "response_type": "stream"} for subject in _CREATES),
            {"service": _FLOW, "accounts": named},
            *({"stream": f"outside.{one.name}.>", "accounts": [one.account]} for one in subscribers),
        ]
    return account


def _outside(subscriber: Subscriber, passwords: Passwords) -> dict[str, Any]:
    makers = [administrator(subscriber.administrator), subscriber_user(subscriber)]
    created = [
        {
            "service": {"account": SERVICES_ACCOUNT, "subject": subject},
            "to": subject.replace("$JS.API", "entrepot.api"),
        }
        for subject in _CREATES
    ]
    return {
        "jetstream": "enabled",
        "users": [_user(user, passwords) for user in makers],
        "imports": [
            *created,
            {"service": {"account": SERVICES_ACCOUNT, "subject": _FLOW}},
            {"stream": {"account": SERVICES_ACCOUNT, "subject": f"outside.{subscriber.name}.>"}},
        ],
    }


def _user(user: User, passwords: Passwords) -> dict[str, Any]:
    return {
        "user": user.name,
        "password": passwords.hashed(user.name),
        "permissions": {"publish": {"allow": list(user.publish)}, "subscribe": {"allow": list(user.subscribe)}},
    }
