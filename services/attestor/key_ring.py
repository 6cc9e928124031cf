"""The signing keys of all attestors: sealed objects in the bucket, opened when they are needed."""

import hashlib

from services.attestor.signing import Master, SigningKey, from_seed
from shared.blobs import BlobMissing, Blobs
from shared.clock import Ids
from shared.names import path_token

MOST_OPEN = 1000


class KeyRing:
    """Makes, keeps and opens signing keys."""

    def __init__(self, blobs: Blobs, master: Master, ids: Ids) -> None:
        self._blobs = blobs
        self._master = master
        self._ids = ids
        self._open: dict[str, SigningKey] = {}

    async def make(self, attestor: str) -> SigningKey:
        """A fresh key for an attestor, durable before anybody hears of it."""
        key = from_seed(self._ids.secret(48))
        name = _object(attestor, key.id)
        await self._blobs.put(name, self._master.seal(key, name, self._ids.secret(12)))
        return key

    async def key(self, attestor: str, key_id: str) -> SigningKey:
        """The key of that id. Raises BlobMissing, KeyUnreadable."""
        name = _object(attestor, key_id)
        found = self._open.get(name)
        if found is None:
            found = self._master.open(await self._blobs.content(name), name)
            if found.id != key_id:
                raise BlobMissing(name)
            if len(self._open) >= MOST_OPEN:
                self._open.clear()
            self._open[name] = found
        return found


def _object(attestor: str, key_id: str) -> str:
    _, project, _, own = attestor.split("/")
    return f"attestor/keys/{project}/{path_token(own)}/{hashlib.sha256(key_id.encode()).hexdigest()[:32]}"
