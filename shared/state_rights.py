"""The commands that `shared/state` sends to Valkey: a service's account there may use these and no others.

Whoever has the state send another one adds its line here, and the accounts of all deployments follow. It lies outside
that package because the launcher writes the accounts before it imports anything large.
"""

from collections.abc import Sequence
from typing import Final

COMMANDS: Final[Sequence[str]] = (
    # Questions.
    "get",
    "mget",
    "hget",
    "hmget",
    "hgetall",
    "hkeys",
    "zcard",
    "zscore",
    "zrangebylex",
    "zrangebyscore",
    "xlen",
    "xrange",
    # What scripts do, which the server holds against the account as well.
    "set",
    "del",
    "type",
    "exists",
    "expire",
    "hset",
    "hdel",
    "hincrby",
    "zadd",
    "zrem",
    "xadd",
    "xtrim",
    "publish",
    # Scripts themselves.
    "eval",
    "evalsha",
    "script|load",
    "script|exists",
    # Waiting to be told, and for what is written to be on disk here and at replicas.
    "subscribe",
    "unsubscribe",
    "pubsub|numsub",
    "waitaof",
    # The connection; settings are read at the start, so that a server that may lose data is refused.
    "ping",
    "client|setinfo",
    "client|setname",
    "client|id",
    "config|get",
)


def rights_of(service: str) -> str:
    """The rules of a service's account in the server's own language: its keys, its channels, these commands."""
    commands = " ".join(f"+{command}" for command in COMMANDS)
    return f"~{{??}}:{service}:* &entrepot:{service}:* &{service}:* -@all {commands}"
