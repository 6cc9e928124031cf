"""The root key vouches for the keys of tokens and of accounts; every service has its public half pinned."""

import base64
import binascii
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from shared.events.states import AccountKey, AccountState, KeyState

_END = b"-----END PUBLIC KEY-----"


@dataclass(frozen=True)
class RootKeys:
    """The pinned public root keys: one, or two while the root is being changed."""

    keys: tuple[EllipticCurvePublicKey, ...]

    @classmethod
    def parse(cls, pem: bytes) -> Self:
        """Read one or several PEM blocks. Raises ValueError when there is none, or another kind of key."""
        blocks = [block + _END for block in pem.split(_END) if block.strip()]
        return cls(tuple(_p256(load_pem_public_key(block.strip())) for block in blocks)).not_empty()

    @classmethod
    def of(cls, private: EllipticCurvePrivateKey) -> Self:
        """The public half of a root key."""
        return cls((private.public_key(),))

    def not_empty(self) -> Self:
        """Itself; raises ValueError when there is no key in it."""
        if not self.keys:
            raise ValueError("no root key is given")
        return self

    def pem(self) -> bytes:
        """The keys as they are pinned in settings."""
        return b"".join(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in self.keys)

    def vouch_for(self, fact: KeyState) -> bool:
        """Whether one of the root keys has signed this key with this validity."""
        return self._signed(fact.signature, statement(fact))

    def vouch_for_account(self, account: AccountState, key_id: str) -> bool:
        """Whether one of the root keys has signed that this key is this account's."""
        key = account.keys.get(key_id)
        return key is not None and self._signed(key.signature, account_statement(account, key_id, key))

    def _signed(self, signature: str, content: bytes) -> bool:
        try:
            decoded = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError):
            return False
        return any(_signed(key, decoded, content) for key in self.keys)


def vouched(fact: KeyState, root: EllipticCurvePrivateKey) -> KeyState:
    """The key fact with the root key's signature."""
    return fact.model_copy(update={"signature": _signature(root, statement(fact))})


def account_signature(account: AccountState, key_id: str, root: EllipticCurvePrivateKey) -> str:
    """The root key's signature that this key is this account's. KeyError where the account has no such key."""
    return _signature(root, account_statement(account, key_id, account.keys[key_id]))


def statement(fact: KeyState) -> bytes:
    """What the root key signs: nothing of the key can be exchanged without its signature failing."""
    parts = ("entrepot token key 1", fact.key_id, fact.not_before, fact.not_after, fact.public_key)
    return _joined(parts)


def account_statement(account: AccountState, key_id: str, key: AccountKey) -> bytes:
    """What the root key signs of an account's key: whose it is and how long; disabling it needs no signature."""
    whose = (account.email, account.unique_id, key_id)
    return _joined(("entrepot account key 1", *whose, key.algorithm, key.not_before, key.not_after, key.public_key))


def _joined(parts: tuple[str, ...]) -> bytes:
    return b"\n".join(f"{len(part)}:{part}".encode() for part in parts)


def _signature(root: EllipticCurvePrivateKey, content: bytes) -> str:
    return base64.b64encode(root.sign(content, ECDSA(SHA256()))).decode()


def _signed(key: EllipticCurvePublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _p256(key: object) -> EllipticCurvePublicKey:
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("a root key is an elliptic curve key on P-256")  # noqa: TRY004 — the file is wrong, not a type
    return key
