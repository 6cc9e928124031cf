"""Content digests as OCI writes them: `sha256:<hex>` and `sha512:<hex>`."""

import hashlib
import re
from typing import Self

_FORM = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")

ALGORITHMS = ("sha256", "sha512")


class Digest(str):
    """A well-formed digest. Holding one means it was checked; nobody checks it again."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Check `text` and return it as a digest; raises ValueError for any other form."""
        if not _FORM.fullmatch(text):
            raise ValueError(f"not a sha256 or sha512 digest: {text[:160]!r}")
        return cls(text)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """The digest of `content` held in memory."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The part behind the colon."""
        return self.partition(":")[2]
