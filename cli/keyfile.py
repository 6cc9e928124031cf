"""Key files in Google's form, and the signed assertion (RFC 7523) that is exchanged for an access token."""

import base64
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cli.exits import Failed, NotAllowed

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SECONDS = 3600
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True)
class KeyFile:
    """A service account's key."""

    email: str
    key_id: str
    private_key: str
    token_uri: str
    content: str
    """The file as it is: the password of `_json_key`."""

    @classmethod
    def read(cls, path: Path) -> "KeyFile":
        """Read a key file; raises Failed when it is none."""
        try:
            content = path.read_text()
        except FileNotFoundError:
            raise NotAllowed(f"the key file {path} is missing") from None
        except (OSError, ValueError) as error:
            raise Failed(f"{path} cannot be read: {error}") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: str, place: str) -> "KeyFile":
        """A key file's content; raises Failed, naming the place where it stood, when it is none."""
        try:
            found = cast("dict[str, Any]", json.loads(content))
            return cls(
                str(found["client_email"]),
                str(found["private_key_id"]),
                str(found["private_key"]),
                str(found["token_uri"]),
                content,
            )
        except (ValueError, KeyError, TypeError) as error:
            # Only the kind of error: a decoder's message may quote what it stumbled over.
            raise Failed(f"{place} is not a key file of a service account ({type(error).__name__})") from error

    def assertion(self, now: float | None = None) -> str:
        """A JWT that says: this account asks for a token, now."""
        issued = int(time.time() if now is None else now)
        head = {"alg": self._algorithm(), "typ": "JWT", "kid": self.key_id}
        claims = {
            "iss": self.email,
            "sub": self.email,
            "aud": self.token_uri,
            "scope": _SCOPE,
            "iat": issued,
            "exp": issued + _SECONDS,
        }
        signed = f"{_segment(head)}.{_segment(claims)}"
        return f"{signed}.{_base64url(self._sign(signed.encode()))}"

    def _algorithm(self) -> str:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey  # noqa: PLC0415 - slow to import

        return "RS256" if isinstance(self._key(), RSAPrivateKey) else "ES256"

    def _key(self) -> Any:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - slow to import

        try:
            return load_pem_private_key(self.private_key.encode(), password=None)
        except ValueError as error:
            raise Failed("the private key in the key file cannot be read") from error

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
