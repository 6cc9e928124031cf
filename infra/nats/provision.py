"""Compare what is on the server with what is to be, and bring the one to the other."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nats.aio.client import Client

from infra.nats.moving import NotMoved, move, outdated
from infra.nats.topology import Config, Topology

_ASK_SECONDS = 10.0
_NO_STREAM, _NO_CONSUMER = 10059, 10014


class ProvisionRefused(Exception):
    """The server refused, or the change would lose messages and nobody said that it may."""


class Act(StrEnum):
    """What a change does."""

    CREATE = "create"
    UPDATE = "update"
    SHRINK = "shrink"
    """An update after which something that is kept now would go."""
    MOVE = "move"
    """Facts lie on subjects of an earlier version: they are said again where they belong, and removed there."""
    FOREIGN = "foreign"
    """A durable that the table does not know: it is left alone, but on a work queue it may take what is not its own."""


@dataclass(frozen=True)
class Change:
    """One difference between what is and what is to be."""

    act: Act
    stream: str
    durable: str
    differences: tuple[str, ...] = ()
    wanted: Config | None = None

    def __str__(self) -> str:
        """One line of a plan."""
        if self.act is Act.MOVE:
            return f"{self.act} {len(self.differences)} facts of {self.stream} to the subjects of this version"
        what = f"durable {self.durable} on {self.stream}" if self.durable else f"stream {self.stream}"
        return "; ".join((f"{self.act} {what}", *self.differences))


class Provisioner:
    """Plans and applies, through a connection that may administrate one account."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection

    async def plan(self, streams: Sequence[Config], durables: Sequence[tuple[str, Config]]) -> list[Change]:
        """What would be done; empty when all is as it should be."""
        changes: list[Change] = []
        existing: set[str] = set()
        for wanted in streams:
            current = await self._info(f"STREAM.INFO.{wanted['name']}", _NO_STREAM)
            existing |= {wanted["name"]} if current else set()
            changes += _difference(current, wanted, wanted["name"], "")
        for stream, wanted in durables:
            current = None
            if stream in existing:
                current = await self._info(f"CONSUMER.INFO.{stream}.{wanted['name']}", _NO_CONSUMER)
            changes += _difference(current, wanted, stream, wanted["name"])
        for stream in sorted(existing):
            if old := await outdated(self._request, stream):
                changes.append(Change(Act.MOVE, stream, "", tuple(old)))
        return changes + await self._foreign(sorted(existing), {(stream, one["name"]) for stream, one in durables})

    async def apply(self, changes: Sequence[Change], *, may_shrink: bool = False) -> None:
        """Do what the plan says. Raises ProvisionRefused, before anything is done, where it would lose messages."""
        shrinking = [str(change) for change in changes if change.act is Act.SHRINK]
        if shrinking and not may_shrink:
            raise ProvisionRefused("would lose messages: " + " | ".join(shrinking))
        for change in changes:
            if change.wanted is not None:
                await self._bring_about(change, change.wanted)
            if change.act is Act.MOVE:
                await self._move(change)

    async def _bring_about(self, change: Change, wanted: Config) -> None:
        if change.durable:
            action = "create" if change.act is Act.CREATE else "update"
            body = {"stream_name": change.stream, "config": wanted, "action": action}
            subject = f"CONSUMER.CREATE.{change.stream}.{change.durable}.{wanted['filter_subject']}"
            await self._ask(subject, body)
        elif change.act is Act.CREATE:
            await self._ask(f"STREAM.CREATE.{change.stream}", wanted)
        else:
            found = await self._info(f"STREAM.INFO.{change.stream}", _NO_STREAM)
            await self._ask(f"STREAM.UPDATE.{change.stream}", (found or {}) | wanted)

    async def _move(self, change: Change) -> None:
        try:
            for subject in change.differences:
                await move(self._request, self._publish, change.stream, subject)
        except NotMoved as error:
            raise ProvisionRefused(str(error)) from error

    async def _publish(self, subject: str, content: bytes, headers: dict[str, str]) -> dict[str, Any]:
        answer = await self._connection.request(subject, content, timeout=_ASK_SECONDS, headers=headers)
        return json.loads(answer.data)

    async def _foreign(self, streams: Sequence[str], known: set[tuple[str, str]]) -> list[Change]:
        found: list[Change] = []
        for stream in streams:
            answer = await self._ask(f"CONSUMER.NAMES.{stream}", {})
            present: list[str] = answer.get("consumers") or []
            names = sorted(name for name in present if (stream, name) not in known)
            details = [await self._ask(f"CONSUMER.INFO.{stream}.{name}", {}) for name in names]
            found += [Change(Act.FOREIGN, stream, one["name"]) for one in details if one["config"].get("durable_name")]
        return found

    async def _info(self, subject: str, absent: int) -> Config | None:
        answer = await self._request(subject, {})
        if answer.get("error", {}).get("err_code") == absent:
            return None
        return _whole(answer, subject)["config"]

    async def _ask(self, subject: str, body: Config) -> dict[str, Any]:
        return _whole(await self._request(subject, body), subject)

    async def _request(self, subject: str, body: Config) -> dict[str, Any]:
        content = json.dumps(body).encode() if body else b""
        answer = await self._connection.request(f"$JS.API.{subject}", content, timeout=_ASK_SECONDS)
        return json.loads(answer.data)


async def provision(connection: Client, topology: Topology, *, may_shrink: bool = False) -> list[Change]:
    """Bring the services' account to what is to be; answers what was done."""
    provisioner = Provisioner(connection)
    changes = await provisioner.plan(topology.streams(), topology.durables())
    await provisioner.apply(changes, may_shrink=may_shrink)
    return changes


def _whole(answer: dict[str, Any], subject: str) -> dict[str, Any]:
    if "error" in answer:
        raise ProvisionRefused(f"{subject}: {answer['error'].get('description')}")
    return answer


def _difference(current: Config | None, wanted: Config, stream: str, durable: str) -> list[Change]:
    if current is None:
        return [Change(Act.CREATE, stream, durable, wanted=wanted)]
    differing = [name for name in wanted if not _same(name, current.get(name), wanted[name])]
    if not differing:
        return []
    loses = [name for name in differing if _loses(name, current.get(name), wanted[name])]
    told = tuple(f"{name}: {_short(current.get(name))} -> {_short(wanted[name])}" for name in differing)
    return [Change(Act.SHRINK if loses else Act.UPDATE, stream, durable, told, wanted)]


def _same(name: str, current: Any, wanted: Any) -> bool:
    if name == "subjects":
        return set(current or ()) == set(wanted)
    return current == wanted or (not current and not wanted)


def _loses(name: str, current: Any, wanted: Any) -> bool:
    """Whether messages that are kept now would go, or would be taken no longer."""
    if name == "subjects":
        return not set(current or ()) <= set(wanted)
    if name in {"max_age", "max_bytes", "max_msgs", "max_msgs_per_subject", "max_deliver"}:
        return _unlimited(wanted) < _unlimited(current)
    return name in {"retention", "filter_subject", "sources"}


def _unlimited(limit: Any) -> float:
    return float("inf") if not limit or limit < 0 else limit


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
