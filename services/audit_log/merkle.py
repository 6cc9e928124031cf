"""The Merkle tree of RFC 6962 over all entries, kept as the few hashes that the next one needs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

EMPTY_ROOT = hashlib.sha256().digest()


def leaf_hash(content: bytes) -> bytes:
    """The hash of one entry."""
    return hashlib.sha256(b"\0" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """The roots of the perfect subtrees that a tree of `size` leaves is made of, largest first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def with_leaves(self, leaves: Sequence[bytes]) -> "Frontier":
        """The tree with these leaf hashes added."""
        size, stack = self.size, list(self.hashes)
        for leaf in leaves:
            node, rest = leaf, size
            while rest & 1:
                node = node_hash(stack.pop(), node)
                rest >>= 1
            stack.append(node)
            size += 1
        return Frontier(size, tuple(stack))

    def root(self) -> bytes:
        """The tree's root hash."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


EMPTY = Frontier()
"""The tree without leaves."""
