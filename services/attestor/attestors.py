"""Attestors: who may vouch for an image, with which keys, and what they vouch for by themselves."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from services.attestor.public_keys import check_algorithm, key_id_of, load_pem
from services.attestor.wire import Wire

ATTESTOR_ID = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?")
_NOTE = re.compile(r"projects/[^/\s]+/notes/[^/\s]+")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")

MOST_KEYS = 64

Threshold = Literal["BLOCK_ALL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "CRITICAL", "ALLOW_ALL"]


class PkixPublicKey(Wire):
    """A public key in PEM, with the one algorithm that its signatures are checked by."""

    public_key_pem: str = Field(max_length=16_384)
    signature_algorithm: str
    key_id: str = ""

    @model_validator(mode="after")
    def _key_of_that_kind(self) -> Self:
        check_algorithm(load_pem(self.public_key_pem), self.signature_algorithm)
        return self


class AttestorKey(Wire):
    """A key that an attestor's signatures may be made with."""

    comment: str = ""
    id: str = ""
    ascii_armored_pgp_public_key: str = ""
    pkix_public_key: PkixPublicKey | None = None

    @model_validator(mode="after")
    def _pkix_only(self) -> Self:
        if self.ascii_armored_pgp_public_key:
            raise ValueError("OpenPGP keys are not checked here yet; give a pkixPublicKey")
        if self.pkix_public_key is None:
            raise ValueError("pkixPublicKey is missing")
        return self

    def named(self) -> Self:
        """The same key with its id: the caller's, where it is a URI, or the key's own RFC 6920 name."""
        pkix = self.pkix_public_key
        if pkix is None:
            return self
        given = self.id or pkix.key_id
        name = given if _URI.fullmatch(given) else key_id_of(load_pem(pkix.public_key_pem))
        return self.model_copy(update={"id": name, "pkix_public_key": pkix.model_copy(update={"key_id": name})})


class GrafeasNote(Wire):
    """The note that attestations of this attestor hang on, and the keys they are signed with."""

    note_reference: str = ""
    public_keys: tuple[AttestorKey, ...] = Field(default=(), max_length=MOST_KEYS)
    delegation_service_account_email: str = ""

    @field_validator("note_reference")
    @classmethod
    def _note(cls, text: str) -> str:
        if text and not _NOTE.fullmatch(text):
            raise ValueError("noteReference is projects/P/notes/N")
        return text


class AutoAttest(Wire):
    """Entrepot's own: sign by ourselves what a scan found no worse than this.

    The two severities are those of Binary Authorization's vulnerability check.
    """

    maximum_fixable_severity: Threshold = "BLOCK_ALL"
    maximum_unfixable_severity: Threshold = "BLOCK_ALL"
    maximum_cvss: float | None = Field(default=None, ge=0, le=10)


class Attestor(Wire):
    """`projects/P/attestors/A`."""

    name: str = ""
    description: str = Field(default="", max_length=1024)
    user_owned_grafeas_note: GrafeasNote = GrafeasNote()
    update_time: str = ""
    etag: str = ""
    auto_attest: AutoAttest | None = None
    signing_key_id: str = ""
    """Output only: the key kept here that new attestations are signed with."""

    @property
    def note(self) -> str:
        """The note its attestations hang on."""
        return self.user_owned_grafeas_note.note_reference

    @property
    def keys(self) -> tuple[AttestorKey, ...]:
        """The keys that count."""
        return self.user_owned_grafeas_note.public_keys

    @property
    def project(self) -> str:
        """The project it belongs to."""
        return self.name.split("/")[1]

    def settled(self, name: str, now: str) -> Self:
        """The attestor as it is kept: named, keys with their ids, a note of its own name where none was given.

        Raises ValueError when two keys have one id.
        """
        keys = tuple(key.named() for key in self.keys)
        if len({key.id for key in keys}) != len(keys):
            raise ValueError("two public keys have the same id")
        _, project, _, own = name.split("/")
        update = {"public_keys": keys, "note_reference": self.note or f"projects/{project}/notes/{own}"}
        note = self.user_owned_grafeas_note.model_copy(update=update)
        return self.model_copy(update={"name": name, "user_owned_grafeas_note": note, "update_time": now})

    def with_key(self, key: AttestorKey) -> Self:
        """The attestor with one more key, which it signs with from now on."""
        note = self.user_owned_grafeas_note
        note = note.model_copy(update={"public_keys": (*note.public_keys, key)})
        return self.model_copy(update={"user_owned_grafeas_note": note, "signing_key_id": key.id})
