"""The span of time that a filter can match in, so that segments outside it need not be read."""

from typing import Final

from services.audit_log.filters.tree import And, Compare, Node

FIRST: Final = ""
LAST: Final = "\x7f"
"""Sorts behind every timestamp."""


def time_bounds(node: Node) -> tuple[str, str]:
    """Earliest and latest timestamp that an entry may have, both included."""
    low, high = FIRST, LAST
    for part in node.parts if isinstance(node, And) else (node,):
        if isinstance(part, And):
            inner = time_bounds(part)
            low, high = max(low, inner[0]), min(high, inner[1])
        elif isinstance(part, Compare) and part.path == ("timestamp",):
            if part.operator in {">", ">=", "="}:
                low = max(low, part.value)
            if part.operator in {"<", "<=", "="}:
                high = min(high, part.value)
    return low, high
