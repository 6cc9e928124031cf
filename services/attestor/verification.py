"""Whether an attestation counts: the note, the digest, a key that the attestor still has, a signature that holds."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from services.attestor.attestors import Attestor, AttestorKey
from services.attestor.facts import Evidence
from services.attestor.payloads import PayloadInvalid, read_simple_signing
from services.attestor.public_keys import verifies

MOST_EVIDENCE = 64
"""Attestations that one decision looks at, so that none can be made slow by piling them up."""


@dataclass(frozen=True)
class _Question:
    attestor: Attestor
    digest: str
    evidence: Evidence


def refusal(attestor: Attestor, digest: str, evidence: Evidence) -> str:
    """Why this attestation does not count for the attestor and the digest; empty when it does."""
    return _answer(_Question(attestor, digest, evidence))


@lru_cache(maxsize=8192)
def _answer(asked: _Question) -> str:
    """Pure, and remembered: the same is asked at every admission of an image."""
    evidence = asked.evidence
    if evidence.note != asked.attestor.note:
        return "it hangs on another note"
    try:
        content = evidence.content()
        signed = read_simple_signing(content)
    except (PayloadInvalid, ValueError) as error:
        return str(error)
    if signed.digest != asked.digest:
        return "it vouches for another digest"
    keys = {key.id: key for key in asked.attestor.keys}
    named = [(keys[made.key_id], made.signature) for made in evidence.signatures[:8] if made.key_id in keys]
    if not named:
        return "it is signed with no key of the attestor"
    return "" if any(_holds(key, signature, content) for key, signature in named) else "its signature does not hold"


def attested(attestor: Attestor, digest: str, evidence: Iterable[Evidence]) -> bool:
    """Whether the attestor vouches for the digest."""
    of_note = [found for found in evidence if found.note == attestor.note][:MOST_EVIDENCE]
    return any(not refusal(attestor, digest, found) for found in of_note)


def _holds(key: AttestorKey, signature: str, content: bytes) -> bool:
    pkix = key.pkix_public_key
    if pkix is None:
        return False
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    return verifies(pkix.public_key_pem, pkix.signature_algorithm, raw, content)
