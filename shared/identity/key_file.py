"""Key files in Google's form, and the signed assertion (RFC 7523) that is exchanged for an access token.

For clients: the command line, and services that act with an account of their own.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Final, Self, cast

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SECONDS: Final = 3600
"""How long an assertion is good for."""

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"


class KeyFileBroken(ValueError):
    """What was given is no key file, or its key cannot be read; nothing of it is in the message."""


@dataclass(frozen=True)
class KeyFile:
    """A service account's key."""

    email: str
    key_id: str
    private_key: str = field(repr=False)
    token_uri: str
    content: str = field(default="", repr=False)
    """The file as it is: the password of `_json_key`."""

    @classmethod
    def parse(cls, content: str) -> Self:
        """Read a key file's content. Raises KeyFileBroken."""
        try:
            found = cast("dict[str, Any]", json.loads(content))
            return cls(
                str(found["client_email"]),
                str(found["private_key_id"]),
                str(found["private_key"]),
                str(found["token_uri"]),
                content,
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            # Only the kind of error: a decoder's message may quote what it stumbled over.
            raise KeyFileBroken(f"not a key file of a service account ({type(error).__name__})") from None

    def assertion(self, now: float) -> str:
        """A JWT that says: this account asks for a token, now. Raises KeyFileBroken."""
        issued = int(now)
        head = {"alg": self._algorithm(), "typ": "JWT", "kid": self.key_id}
        claims = {
            "iss": self.email,
            "sub": self.email,
            "aud": self.token_uri,
            "scope": _SCOPE,
            "iat": issued,
            "exp": issued + SECONDS,
        }
        signed = f"{_segment(head)}.{_segment(claims)}"
        return f"{signed}.{_base64url(self._sign(signed.encode()))}"

    def _algorithm(self) -> str:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415 - slow to import

        return "RS256" if isinstance(self._key(), RSAPrivateKey) else "ES256"

    def _key(self) -> Any:
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - slow to import
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - slow to import

        try:
            return load_pem_private_key(self.private_key.encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyFileBroken("the private key in the key file cannot be read") from None

    def _sign(self, content: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - slow to import
        from cryptography.hazmat.primitives.asymmetric import ec, padding, utils  # noqa: PLC0415 - slow to import

        key = self._key()
        if self._algorithm() == "RS256":
            return key.sign(content, padding.PKCS1v15(), hashes.SHA256())
        r, s = utils.decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _segment(part: dict[str, Any]) -> str:
    return _base64url(json.dumps(part, separators=(",", ":")).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
