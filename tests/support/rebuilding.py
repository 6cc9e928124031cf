"""A registry whose state is lost and comes back: what the rebuild is given, and how two states are compared."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, cast

import orjson

from services.registry.layout import Layout, counter_of
from services.registry.rebuilding.rebuild import Rebuild
from services.registry.rebuilding.shelf import Shelf
from services.registry.rebuilding.sources import Sources
from services.registry.rebuilding.taking import Taking, Walk
from services.registry.store import Store
from services.registry.voice import Voice
from shared.bus import Message
from shared.bus.history import History, MemoryHistory
from shared.http.iam import Policies
from shared.parts import Parts
from shared.state import Lease
from shared.state.memory import MemoryStore
from tests.support.parts import MemoryParts

Dump = dict[str, Any]
"""All keys of a service with what they hold; keys that expire, and outbox lanes, are not in it."""

LOCATION = "local"
PASSING = (":request:", ":lane:", ":lanes", ":snapshots:lease", ":rebuilding")


def taking(parts: Parts, seconds: float = 1.0) -> Taking:
    """What takes snapshots of this registry's state."""
    store, voice, policies = _tools(parts)
    walk = Walk(store, parts.keys, policies, voice)
    return Taking(walk, Shelf(parts.blobs, LOCATION), parts.clock, parts.ids, seconds)


def rebuilding(parts: Parts, history: History, said: list[str] | None = None) -> Rebuild:
    """A rebuild of this registry's state."""
    store, voice, policies = _tools(parts)
    say = ([""] if said is None else said).append
    return Rebuild(
        Sources(parts.state, parts.keys, store, parts.blobs, policies, voice, history, parts.clock, parts.ids, say)
    )


def _tools(parts: Parts) -> tuple[Store, Voice, Policies]:
    store = Store(parts.state, Layout(parts.keys))
    policies = Policies(parts.state, parts.keys, parts.outbox, parts.directory, counter_of)
    return store, Voice(LOCATION, f"{LOCATION}-docker.pkg.dev"), policies


async def publish(parts: Parts) -> None:
    """Let the outbox run dry."""
    token = parts.ids.new()
    for lane in await parts.state.busy_lanes():
        assert await parts.state.acquire(lane, token, 60)
        while entries := await parts.state.entries(lane, 64):
            await parts.bus.publisher.publish([Message(entry.id, entry.subject, entry.content) for entry in entries])
            assert await parts.state.remove(Lease(lane, token), entries[-1].number)


def memory_history(parts: MemoryParts) -> MemoryHistory:
    """All that was said on a memory bus."""
    return MemoryHistory(parts.broker)


def flush(store: MemoryStore) -> None:
    """FLUSHALL."""
    for kind in (store.values, store.hashes, store.indexes, store.lanes, store.expiries):
        kind.clear()


def memory_dump(store: MemoryStore) -> Dump:
    """What a memory store holds."""
    found: Dump = {**store.values, **{key: dict(fields) for key, fields in store.hashes.items()}}
    found |= {key: dict(sorted(members.items())) for key, members in store.indexes.items()}
    return {key: found[key] for key in sorted(found) if found[key] and not any(kind in key for kind in PASSING)}


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], *, may: Mapping[str, AbstractSet[str]]
) -> list[str]:
    """What is not the same, but for the named fields: by kind of key; `*` stands for all of it."""
    found: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        kind = key.split(":")[2]
        free = may.get(kind, frozenset[str]())
        if "*" in free:
            continue
        left, right = (_without(side.get(key), free) for side in (before, after))
        if left != right:
            found.append(f"{key}:\n   was {left}\n   is  {right}")
    return found


def _without(held: Any, fields: AbstractSet[str]) -> Any:
    if isinstance(held, dict):
        return {name: _plain(text) for name, text in cast("Dump", held).items() if name not in fields}
    return _plain(held)


def _plain(text: Any) -> Any:
    """JSON by what it says."""
    if isinstance(text, str) and text.startswith("{"):
        return orjson.loads(text)
    return text
