"""The bus: events leave durably and in order, and reach every service at least once."""

from shared.bus.face import Bus, BusUnavailable, Handler, Heard, Later, Message, Publisher, Reject, StreamFull, View

__all__ = [
    "Bus",
    "BusUnavailable",
    "Handler",
    "Heard",
    "Later",
    "Message",
    "Publisher",
    "Reject",
    "StreamFull",
    "View",
]
