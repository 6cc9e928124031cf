"""Key files in Google's form: made when a key is made, and taken as passwords when somebody logs in with one."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509 import load_pem_x509_certificate
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.identity.accounts import Account, Key
from shared.http.errors import InvalidArgument

MAX_KEY_FILE: Final = 16 * 1024


class KeyFileInvalid(ValueError):
    """What was given is no key file; nothing of it is in the message."""


class KeyFile(BaseModel):
    """What matters of a key file."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    type: str = Field(pattern="^service_account$")
    private_key_id: str = Field(min_length=1, max_length=128)
    private_key: str = Field(min_length=1, max_length=8192, repr=False)
    client_email: str = Field(min_length=3, max_length=254)
    client_id: str = Field(default="", max_length=64)

    @classmethod
    def parse(cls, content: str | bytes) -> "KeyFile":
        """Read a key file. Raises KeyFileInvalid."""
        if len(content) > MAX_KEY_FILE:
            raise KeyFileInvalid("too long")
        try:
            return cls.model_validate(json.loads(content))
        except (ValidationError, ValueError, RecursionError):
            raise KeyFileInvalid("not a service account's key file") from None

    @classmethod
    def parse_base64(cls, content: str) -> "KeyFile":
        """Read a key file that was written in base64, with line ends or without. Raises KeyFileInvalid."""
        if len(content) > 2 * MAX_KEY_FILE:
            raise KeyFileInvalid("too long")
        try:
            return cls.parse(base64.b64decode("".join(content.split()), validate=True))
        except (binascii.Error, ValueError):
            raise KeyFileInvalid("not base64") from None

    def public_key(self) -> str:
        """The public half, PEM. Raises KeyFileInvalid."""
        try:
            private = load_pem_private_key(self.private_key.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyFileInvalid("the private key cannot be read") from None
        if not isinstance(private, rsa.RSAPrivateKey):
            raise KeyFileInvalid("the private key is not an RSA key")
        return public_pem(private.public_key())

    def opens(self, key: Key) -> bool:
        """Whether this file holds the private half of `key`. Takes a millisecond or two.

        The public numbers in a private key file can be copied from anywhere, so the proof is a signature, checked with
        the public key that was registered.
        """
        try:
            private = load_pem_private_key(self.private_key.encode(), None, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return False
        public = load_pem_public_key(key.public_key.encode())
        if not isinstance(private, rsa.RSAPrivateKey) or not isinstance(public, rsa.RSAPublicKey):
            return False
        if private.key_size > 4096:
            return False
        return _proves(private, public, hashlib.sha256(key.id.encode()).digest())


def _proves(private: rsa.RSAPrivateKey, public: rsa.RSAPublicKey, challenge: bytes) -> bool:
    try:
        public.verify(private.sign(challenge, padding.PKCS1v15(), SHA256()), challenge, padding.PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Pair:
    """A fresh key: both halves, PEM."""

    private: str
    public: str


def new_pair() -> Pair:
    """Make an RSA key of 2048 bits; takes a tenth of a second or more."""
    private = rsa.generate_private_key(65537, 2048)
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Pair(secret, public_pem(private.public_key()))


def public_pem(public: rsa.RSAPublicKey) -> str:
    """A public key as it is kept."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_file(account: Account, key: Key, private: str, base_url: str) -> dict[str, Any]:
    """The key file that the account's owner gets, once."""
    return {
        "type": "service_account",
        "project_id": account.project,
        "private_key_id": key.id,
        "private_key": private,
        "client_email": account.email,
        "client_id": account.unique_id,
        "auth_uri": f"{base_url}/o/oauth2/auth",
        "token_uri": f"{base_url}/token",
        "auth_provider_x509_cert_url": f"{base_url}/oauth2/v1/certs",
        "client_x509_cert_url": f"{base_url}/robot/v1/metadata/x509/{account.email.replace('@', '%40')}",
        "universe_domain": "googleapis.com",  # clients compare it with their own setting, whose default this is
    }


def uploaded_public_key(data: str) -> str:
    """The RSA key in what an upload brings: base64 of a certificate or a public key, PEM. Raises InvalidArgument."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument("publicKeyData is not base64.") from error
    readers: list[Callable[[bytes], object]] = [
        load_pem_public_key,
        lambda pem: load_pem_x509_certificate(pem).public_key(),
    ]
    for read in readers:
        try:
            public = read(content)
        except (ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(public, rsa.RSAPublicKey) and 2048 <= public.key_size <= 4096:
            return public_pem(public)
    raise InvalidArgument("publicKeyData must hold a certificate or an RSA public key of 2048 to 4096 bits, PEM.")
