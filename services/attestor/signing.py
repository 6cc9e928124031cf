"""Signing keys that are kept here: made here, sealed with the master key, never shown."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.attestor.attestors import AttestorKey, PkixPublicKey
from services.attestor.public_keys import key_id_of

ALGORITHM = "ECDSA_P256_SHA256"
_NONCE = 12


class KeyUnreadable(Exception):
    """A sealed key was not sealed with this master key for this attestor, or was changed."""


@dataclass(frozen=True)
class SigningKey:
    """A private key in use. Only `sealed` leaves the process."""

    private: ec.EllipticCurvePrivateKey

    @property
    def id(self) -> str:
        """The key's RFC 6920 name."""
        return key_id_of(self.private.public_key())

    def sign(self, content: bytes) -> bytes:
        """A detached ECDSA signature, DER; the same content has the same (RFC 6979)."""
        return self.private.sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))

    def public(self, comment: str) -> AttestorKey:
        """The public half as an attestor lists it."""
        pem = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        pkix = PkixPublicKey(public_key_pem=pem.decode(), signature_algorithm=ALGORITHM, key_id=self.id)
        return AttestorKey(comment=comment, id=self.id, pkix_public_key=pkix)


def from_seed(seed: bytes) -> SigningKey:
    """A P-256 key from 48 unpredictable bytes: reduced so, no key is more likely than another."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    return SigningKey(ec.derive_private_key(int.from_bytes(seed) % (order - 1) + 1, ec.SECP256R1()))


@dataclass(frozen=True)
class Master:
    """Master keys, the present one first; older ones only open what they sealed."""

    keys: Sequence[bytes]

    def seal(self, key: SigningKey, about: str, nonce: bytes) -> bytes:
        """The private key encrypted with AES-256-GCM, bound to what it is about; `nonce` has 12 bytes."""
        plain = key.private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return base64.b64encode(nonce + AESGCM(self.keys[0]).encrypt(nonce, plain, about.encode()))

    def open(self, sealed: bytes, about: str) -> SigningKey:
        """The key that was sealed; raises KeyUnreadable."""
        for master in self.keys:
            try:
                return _opened(base64.b64decode(sealed), master, about)
            except (InvalidTag, ValueError):
                continue
        raise KeyUnreadable(about)


def _opened(sealed: bytes, master: bytes, about: str) -> SigningKey:
    plain = AESGCM(master).decrypt(sealed[:_NONCE], sealed[_NONCE:], about.encode())
    private = serialization.load_der_private_key(plain, password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise InvalidTag
    return SigningKey(private)
