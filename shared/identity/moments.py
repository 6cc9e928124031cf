"""When keys of accounts and of tokens count."""

from datetime import UTC, datetime
from typing import Final

from shared.events.states import AccountKey, AccountState

LEEWAY: Final = 10
"""Seconds that the clocks of services may differ."""


def moment(text: str) -> float:
    """An RFC 3339 time as a Unix timestamp; an end that cannot be read has passed."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def usable_key(account: AccountState, key_id: str, now: float) -> AccountKey | None:
    """The account's key of that id, if it may be used now."""
    key = account.keys.get(key_id)
    if key is None or key.disabled:
        return None
    too_early = bool(key.not_before) and now < moment(key.not_before) - LEEWAY
    too_late = bool(key.not_after) and now >= moment(key.not_after)
    return None if too_early or too_late else key
