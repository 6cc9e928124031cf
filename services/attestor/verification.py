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
"""Attestations with a key of one attestor that a decision checks, so that none can be made slow by piling them up."""


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
    named = [(keys[made.key_id], made.signature) for made in evidence.signatures if made.key_id in keys][:8]
    if not named:
        return "it is signed with no key of the attestor"
    return "" if any(_holds(key, signature, content) for key, signature in named) else "its signature does not hold"


@dataclass(frozen=True)
class Finding:
    """Whether an attestor vouches for a digest, and what was not looked at for that."""

    attested: bool
    unseen: int = 0


def examined(attestor: Attestor, digest: str, evidence: Iterable[Evidence]) -> Finding:
    """Look for an attestation that counts: our own first, then others', the newest first.

    What hangs on other notes or names none of the attestor's keys is passed over, so that nobody can crowd out what
    counts but who may attach to this very note.
    """
    keys = {key.id for key in attestor.keys}
    of_ours = [found for found in evidence if found.note == attestor.note and found.signers & keys]
    of_ours.sort(key=lambda found: (bool(found.image), found.generation), reverse=True)
    if any(not refusal(attestor, digest, found) for found in of_ours[:MOST_EVIDENCE]):
        return Finding(attested=True)
    return Finding(attested=False, unseen=max(0, len(of_ours) - MOST_EVIDENCE))


def _holds(key: AttestorKey, signature: str, content: bytes) -> bool:
    pkix = key.pkix_public_key
    if pkix is None:
        return False
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    return verifies(pkix.public_key_pem, pkix.signature_algorithm, raw, content)
