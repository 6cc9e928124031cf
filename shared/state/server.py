"""How Valkey is reached: where it is, who asks, how long an answer may take, and which servers are refused."""

from dataclasses import dataclass
from typing import Any, cast

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.TryAgainError,
    exceptions.OutOfMemoryError,
    OSError,
)
"""What may work when it is asked again."""

_PASSING_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE", "LOADING")


class ReplicasBehind(exceptions.ConnectionError):
    """Too few replicas have the change in their append-only file; it is done here, and waiting again may help."""


class UnsafeState(Exception):
    """The server's settings allow it to lose what it acknowledged."""


@dataclass(frozen=True)
class ValkeySettings:
    """Where a service's state lives."""

    url: str
    """`redis://HOST:PORT`, `rediss://…` with TLS, or `unix:///PATH`."""
    username: str = ""
    password: str = ""
    lane_limit: int = 100_000
    """Entries that an outbox lane holds before new changes are refused."""
    deadline: float = 5.0
    """Seconds after which an unanswered request is given up."""
    connections: int = 32
    replicas: int = 0
    """How many replicas must have a change in their append-only file before it counts; 0 where there are none."""
    accept_loss: bool = False
    """Start on a server that may lose acknowledged changes."""


def connect(settings: ValkeySettings) -> Redis:
    """A client for commands. It never retries by itself: a script whose answer was lost would run twice."""
    return _client(settings, settings.connections, socket_timeout=3.0)


def connect_listener(settings: ValkeySettings) -> Redis:
    """A client that waits for messages as long as it takes."""
    return _client(settings, 4, socket_timeout=None)


def _client(settings: ValkeySettings, connections: int, socket_timeout: float | None) -> Redis:
    options: dict[str, Any] = {"username": settings.username} if settings.username else {}
    if settings.password:
        options["password"] = settings.password
    if not settings.url.startswith("unix:"):
        options["socket_connect_timeout"] = 2.0
        options["socket_keepalive"] = True
    pool = cast("Any", BlockingConnectionPool).from_url(
        settings.url,
        max_connections=connections,
        timeout=2,
        socket_timeout=socket_timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **options,
    )
    return Redis.from_pool(pool)


def is_passing(error: Exception) -> bool:
    """Whether the same request may work in a moment."""
    return isinstance(error, PASSING) or (
        isinstance(error, exceptions.ResponseError) and str(error).startswith(_PASSING_CODES)
    )


async def refuse_unsafe(client: Redis, *, accept_loss: bool = False) -> None:
    """Raise UnsafeState, with what to change, when the server may lose what it acknowledged."""
    settings = await _configuration(client)
    wrong = [
        f"{name} is {settings.get(name, 'unknown')}, must be {wanted}"
        for name, wanted in (("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction"))
        if settings.get(name) != wanted
    ]
    if wrong and not accept_loss:
        raise UnsafeState(f"the state server may lose acknowledged changes: {'; '.join(wrong)}")


async def _configuration(client: Redis) -> dict[str, str]:
    found: dict[str, str] = {}
    for pattern in ("append*", "maxmemory-policy"):
        answer = await cast("Any", client).config_get(pattern)
        found |= {_text(name): _text(value) for name, value in answer.items()}
    return found


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
