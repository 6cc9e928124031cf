"""Unfinished uploads as their addresses tell of them: signed, so that the address itself authorises what it names.

An address lives for a day, whatever the bearer's token does meanwhile, and any replica can go on with it: what was
hashed so far stands in it, the bytes are staged in the bucket.
"""

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Self

import orjson

from services.registry.errors import UploadUnknown
from services.registry.names import ImageName
from shared.digest import Digest

_SIGNATURE = 32
_LONGEST = 2048


@dataclass(frozen=True)
class Session:
    """An upload under way, as its newest address knows it."""

    id: str
    project: str
    repository: str
    image: str
    expires: int
    """Unix timestamp."""
    actor: str
    algorithm: str = "sha256"
    """Of the digest that is expected in the end; another one costs reading the bytes again."""
    offset: int = 0
    """Bytes that had come when this address was given out."""
    hashed: str = ""
    """Their digest in hexadecimal; empty where it is not known."""
    life: str = ""
    """Which life of the repository the upload began in, so that its end needs not ask; empty where it is not known."""

    @property
    def name(self) -> ImageName:
        """The image that the blob is for."""
        return ImageName(self.project, self.repository, self.image)

    @property
    def digest(self) -> Digest | None:
        """The digest of the bytes that had come, where it is known."""
        return Digest(f"{self.algorithm}:{self.hashed}") if self.hashed else None

    def seal(self, key: bytes) -> str:
        """This session as text that nobody without the key can write."""
        content = orjson.dumps(self)
        signature = hmac.digest(key, content, "sha256")
        return base64.urlsafe_b64encode(signature + content).decode().rstrip("=")

    @classmethod
    def unseal(cls, text: str, key: bytes) -> Self:
        """Read what `seal` wrote; raises UploadUnknown for anything else."""
        signed = _decoded(text)
        signature, content = signed[:_SIGNATURE], signed[_SIGNATURE:]
        if not hmac.compare_digest(signature, hmac.digest(key, content, "sha256")):
            raise UploadUnknown("there is no such upload")
        return cls(**orjson.loads(content))


def _decoded(text: str) -> bytes:
    try:
        if len(text) > _LONGEST:
            raise UploadUnknown("there is no such upload")
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UploadUnknown("there is no such upload") from error
