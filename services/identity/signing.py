"""The keys that tokens are signed with: made here, vouched for by the root key, kept sealed with it, and rotated.

All replicas sign with the same keys. A new key is announced before it signs, so that everybody knows it by then; the
last one counts for as long as tokens signed with it live.
"""

import base64
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey
from pydantic import BaseModel, ConfigDict

from services.identity.store import ORGANIZATION, Change, Store
from shared.clock import Clock, Ids, rfc3339
from shared.events import Cause
from shared.events.states import KeyState
from shared.identity.root import vouched
from shared.identity.tokens import ALGORITHM, LIFETIME
from shared.state import DropField, FieldIs, PutField

ANNOUNCED_SECONDS: Final = 120.0
"""How long everybody has to hear of a new key before it signs."""
LOOK_SECONDS: Final = 30.0

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256."""


class NoSigningKey(Exception):
    """There is no token key that signs now; retryable."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    fact: KeyState
    sealed: str
    signs_from: float
    signs_until: float
    counts_until: float


@dataclass(frozen=True)
class _Signer:
    record: _Record
    key: ECKey


class SigningKeys:
    """Signs tokens, and keeps the keys for that fresh."""

    def __init__(self, root: EllipticCurvePrivateKey, store: Store, clock: Clock, ids: Ids, *, days: float) -> None:
        """`days` is how long a key signs."""
        self._root = root
        self._seal = AESGCM(_sealing_key(root))
        self._store = store
        self._clock = clock
        self._ids = ids
        self._period = days * 86400
        self._signers: dict[str, _Signer] = {}
        self._place = store.keys.of(ORGANIZATION, "signing")

    def sign(self, claims: dict[str, Any]) -> str:
        """A JWT with these claims. Raises NoSigningKey."""
        now = self._clock.now()
        usable = [
            signer for signer in self._signers.values() if signer.record.signs_from <= now < signer.record.signs_until
        ]
        if not usable:
            raise NoSigningKey
        best = max(usable, key=lambda signer: signer.record.signs_from)
        header = {"alg": ALGORITHM, "typ": "JWT", "kid": best.record.fact.key_id}
        return jwt.encode(header, claims, best.key, algorithms=[ALGORITHM])

    @property
    def ready(self) -> bool:
        """Whether tokens can be signed now."""
        now = self._clock.now()
        return any(signer.record.signs_from <= now < signer.record.signs_until for signer in self._signers.values())

    async def look(self) -> None:
        """Learn the keys that other replicas made, make the next one when it is time, and drop what has run out."""
        records = await self._records()
        self._signers = {name: signer for name, record in records.items() if (signer := self._opened(record))}
        now = self._clock.now()
        await self._drop([record for record in records.values() if record.counts_until <= now])
        lasts = max((signer.record.signs_until for signer in self._signers.values()), default=0.0)
        if lasts - now < min(self._period / 4, 86400.0) or not self.ready:
            await self._make(at_once=not self.ready)

    async def replace(self, cause: Cause) -> None:
        """Sign with a new key from now on, and let all older ones count no more: every token given out is void."""
        old = list((await self._records()).values())
        await self._make(at_once=True, cause=cause)
        await self._drop(old, cause)
        await self.look()

    async def watch(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self.look()

    async def _records(self) -> dict[str, _Record]:
        stored = await self._store.state.record(self._place)
        return {name: _Record.model_validate_json(text) for name, text in stored.items()}

    async def _make(self, *, at_once: bool, cause: Cause | None = None) -> None:
        """Make a key. Replicas that do so at the same time make one each, which is harmless."""
        record = self._new(0.0 if at_once else ANNOUNCED_SECONDS)
        key_id = record.fact.key_id
        change = Change(
            project=ORGANIZATION,
            request=f"signing {key_id}",
            checks=(FieldIs(self._place, key_id, None),),
            writes=(PutField(self._place, key_id, record.model_dump_json()),),
            events=(record.fact,),
        )
        await self._store.apply(change, cause or Cause(id=f"signing {key_id}"))
        signer = self._opened(record)
        if signer is not None:
            self._signers[key_id] = signer

    def _new(self, delay: float) -> _Record:
        now = self._clock.now()
        private = derive_private_key(1 + int.from_bytes(self._ids.secret(40)) % (_ORDER - 1), SECP256R1())
        key_id = self._ids.secret(16).hex()
        until = now + delay + self._period
        fact = KeyState(
            project="",
            key_id=key_id,
            public_key=private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            not_before=rfc3339(now),
            not_after=rfc3339(until + LIFETIME),
            signature="",
        )
        return _Record(
            fact=vouched(fact, self._root),
            sealed=self._sealed(private, key_id),
            signs_from=now + delay,
            signs_until=until,
            counts_until=until + LIFETIME,
        )

    async def _drop(self, records: list[_Record], cause: Cause | None = None) -> None:
        for record in records:
            key_id = record.fact.key_id
            change = Change(
                project=ORGANIZATION,
                request=f"unsign {key_id}",
                checks=(),
                writes=(DropField(self._place, key_id),),
                events=(record.fact.model_copy(update={"deleted": True}),),
            )
            await self._store.apply(change, cause or Cause(id=f"unsign {key_id}"))
            self._signers.pop(key_id, None)

    def _sealed(self, private: EllipticCurvePrivateKey, key_id: str) -> str:
        content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        nonce = self._ids.secret(12)
        return base64.b64encode(nonce + self._seal.encrypt(nonce, content, key_id.encode())).decode()

    def _opened(self, record: _Record) -> _Signer | None:
        """The key for signing; None for one that another root key sealed: it counts on, but signs no more."""
        known = self._signers.get(record.fact.key_id)
        if known is not None:
            return known
        sealed = base64.b64decode(record.sealed)
        try:
            content = self._seal.decrypt(sealed[:12], sealed[12:], record.fact.key_id.encode())
        except InvalidTag:
            return None
        return _Signer(record, ECKey.import_key(content))


def _sealing_key(root: EllipticCurvePrivateKey) -> bytes:
    content = root.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return HKDF(hashes.SHA256(), 32, salt=None, info=b"entrepot token keys 1").derive(content)
