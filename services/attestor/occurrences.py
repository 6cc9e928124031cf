"""Occurrences of kind ATTESTATION, as Container Analysis writes them: what signatures travel in."""

import base64
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.attestor.facts import Evidence, Signature


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class _Signature(_Lenient):
    public_key_id: str = Field(default="", max_length=500)
    signature: str = Field(min_length=1, max_length=20_000)


class Attestation(_Lenient):
    """The payload that was signed, and who signed it."""

    serialized_payload: str = Field(min_length=1, max_length=100_000)
    signatures: tuple[_Signature, ...] = Field(min_length=1, max_length=16)

    def evidence(self, note: str, name: str = "") -> Evidence:
        """The attestation as evidence that hangs on a note."""
        signatures = tuple(Signature(key_id=made.public_key_id, signature=made.signature) for made in self.signatures)
        return Evidence(note=note, payload=self.serialized_payload, signatures=signatures, object=name)


class Occurrence(_Lenient):
    """An occurrence that holds an attestation."""

    note_name: str
    attestation: Attestation

    @classmethod
    def read(cls, content: bytes) -> "Occurrence":
        """Read an occurrence; raises a ValueError when it holds no attestation."""
        return cls.model_validate_json(content)

    def evidence(self, name: str) -> Evidence:
        """What it proves; `name` is the object it lies in."""
        return self.attestation.evidence(self.note_name, name)


def occurrence_json(resource: str, note: str, payload: bytes, signature: Signature) -> dict[str, Any]:
    """An occurrence with one signature."""
    made = {"publicKeyId": signature.key_id, "signature": signature.signature}
    return {
        "resourceUri": resource,
        "noteName": note,
        "kind": "ATTESTATION",
        "attestation": {"serializedPayload": base64.b64encode(payload).decode(), "signatures": [made]},
    }
