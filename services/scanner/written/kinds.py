"""What a note or an occurrence may say: Grafeas' fields, each thing with the details of exactly one kind."""

import base64
import binascii
import re
from typing import Annotated, Any, Final, Self, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from shared.http.bodies import validated
from shared.names import PROJECT

Json = dict[str, Any]

DETAILS: Final = {
    "VULNERABILITY": "vulnerability",
    "BUILD": "build",
    "IMAGE": "image",
    "PACKAGE": "package",
    "DEPLOYMENT": "deployment",
    "DISCOVERY": "discovery",
    "ATTESTATION": "attestation",
    "UPGRADE": "upgrade",
    "COMPLIANCE": "compliance",
    "DSSE_ATTESTATION": "dsseAttestation",
    "VULNERABILITY_ASSESSMENT": "vulnerabilityAssessment",
    "SBOM_REFERENCE": "sbomReference",
    "SECRET": "secret",
}
"""The field that holds the details of each kind."""
SIGNED: Final = frozenset({"ATTESTATION", "DSSE_ATTESTATION"})
"""What is signed is written once and deleted once."""
NOTE_FIELDS: Final = ("shortDescription", "longDescription", "relatedUrl", "relatedNoteNames", "expirationTime")
OCCURRENCE_FIELDS: Final = ("remediation", "envelope")
NOTE_NAME: Final = re.compile(rf"projects/({PROJECT.pattern})/notes/([A-Za-z0-9][A-Za-z0-9._-]{{0,127}})")

_CLEAN: Final = re.compile(r"[^\x00-\x20\x7f]+")
W = TypeVar("W", bound="_Written")


def _standard(text: str) -> str:
    """Bytes in the one form that JSON has for them; both alphabets are taken, with padding or without."""
    plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64encode(base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)).decode()
    except (binascii.Error, ValueError) as error:
        raise ValueError("it is not base64") from error


def _clean(text: str) -> str:
    if not _CLEAN.fullmatch(text):
        raise ValueError("it has no blanks or control characters")
    return text


Bytes = Annotated[str, Field(min_length=1, max_length=100_000), AfterValidator(_standard)]
Details = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class _Signature(_Part):
    public_key_id: str = Field(default="", max_length=500)
    signature: Annotated[str, Field(min_length=1, max_length=20_000), AfterValidator(_standard)]


class _Jwt(_Part):
    compact_jwt: str = Field(min_length=1, max_length=20_000)


class _Attestation(_Part):
    serialized_payload: Bytes
    signatures: tuple[_Signature, ...] = Field(min_length=1, max_length=16)
    jwts: tuple[_Jwt, ...] | None = Field(default=None, max_length=16)


class _EnvelopeSignature(_Part):
    sig: Annotated[str, Field(min_length=1, max_length=20_000), AfterValidator(_standard)]
    keyid: str | None = Field(default=None, max_length=500)


class _Envelope(_Part):
    payload: Bytes
    payload_type: str = Field(min_length=1, max_length=500)
    signatures: tuple[_EnvelopeSignature, ...] = Field(min_length=1, max_length=16)


class _DsseAttestation(_Part):
    envelope: _Envelope
    statement: Details | None = None


class _SbomReference(_Part):
    payload: Details
    payload_type: str = Field(min_length=1, max_length=500)
    signatures: tuple[_EnvelopeSignature, ...] = Field(default=(), max_length=16)


class _Hint(_Part):
    human_readable_name: str = Field(default="", max_length=1000)


class _Authority(_Part):
    hint: _Hint | None = None


class _Written(_Part):
    kind: str = ""
    name: str | None = None
    create_time: str | None = None
    update_time: str | None = None
    vulnerability: Details | None = None
    build: Details | None = None
    image: Details | None = None
    package: Details | None = None
    deployment: Details | None = None
    discovery: Details | None = None
    upgrade: Details | None = None
    compliance: Details | None = None
    secret: Details | None = None

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        found = self.kinds()
        if len(found) != 1:
            raise ValueError(f"it has the details of exactly one kind: {', '.join(DETAILS.values())}")
        if self.kind not in {"", "NOTE_KIND_UNSPECIFIED", found[0]}:
            raise ValueError("kind is not that of its details")
        return self

    def kinds(self) -> list[str]:
        """The kinds whose details are there."""
        given = {to_camel(name) for name in type(self).model_fields if getattr(self, name) is not None}
        return [kind for kind, field in DETAILS.items() if field in given]

    def said(self) -> Json:
        """As it is kept: in JSON's names, with its kind, without what is only ever answered."""
        found = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        kept = {name: value for name, value in found.items() if name not in {"name", "createTime", "updateTime"}}
        return {**kept, "kind": self.kinds()[0]}


class Note(_Written):
    """A note as a caller writes it."""

    short_description: str | None = Field(default=None, max_length=1000)
    long_description: str | None = Field(default=None, max_length=100_000)
    related_url: tuple[Details, ...] | None = Field(default=None, max_length=100)
    related_note_names: tuple[str, ...] | None = Field(default=None, max_length=100)
    expiration_time: str | None = Field(default=None, max_length=40)
    attestation: _Authority | None = None
    dsse_attestation: _Authority | None = None
    vulnerability_assessment: Details | None = None
    sbom_reference: Details | None = None


class Occurrence(_Written):
    """An occurrence as a caller writes it."""

    resource_uri: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_clean)]
    note_name: str = Field(pattern=f"^{NOTE_NAME.pattern}$")
    remediation: str | None = Field(default=None, max_length=10_000)
    envelope: _Envelope | None = None
    attestation: _Attestation | None = None
    dsse_attestation: _DsseAttestation | None = None
    sbom_reference: _SbomReference | None = None


def read(model: type[W], body: Json) -> W:
    """A note or an occurrence from JSON; raises InvalidArgument that says what is wrong with which field."""
    return validated(model, body)


def severity_of(content: Json) -> str:
    """What a filter compares `severity` with."""
    details = cast("Json", content.get("vulnerability") or {})
    return str(details.get("severity", details.get("effectiveSeverity", "")))
