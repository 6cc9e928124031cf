"""What is signed: the simple-signing payload, and an in-toto statement in a DSSE envelope."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.attestor.signing import SigningKey
from shared.digest import Digest

TYPES = ("Google cloud binauthz container signature", "atomic container signature")
IN_TOTO = "application/vnd.in-toto+json"
DSSE_MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
STATEMENT = "https://in-toto.io/Statement/v1"
VULNERABILITIES = "https://in-toto.io/attestation/vulns/v0.1"


class PayloadInvalid(Exception):
    """What was signed is no container signature."""


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class _Identity(_Lenient):
    docker_reference: str = Field(default="", alias="docker-reference")


class _Image(_Lenient):
    digest: str = Field(alias="docker-manifest-digest")


class _Critical(_Lenient):
    identity: _Identity = _Identity()
    image: _Image
    type: str


class _Payload(_Lenient):
    critical: _Critical


@dataclass(frozen=True)
class Signed:
    """What a container signature says."""

    reference: str
    digest: str


def simple_signing(reference: str, digest: str) -> bytes:
    """The payload that vouches for `digest` under the name `reference`."""
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": digest},
        "type": TYPES[0],
    }
    return orjson.dumps({"critical": critical}, option=orjson.OPT_SORT_KEYS)


def read_simple_signing(content: bytes) -> Signed:
    """What a payload says; raises PayloadInvalid."""
    try:
        critical = _Payload.model_validate(_unambiguous(content)).critical
        digest = Digest.parse(critical.image.digest)
    except (ValidationError, ValueError, RecursionError) as error:
        raise PayloadInvalid("the payload is no container signature") from error
    if critical.type not in TYPES:
        raise PayloadInvalid(f"the payload is of type {critical.type[:80]!r}")
    return Signed(critical.identity.docker_reference, digest)


def _unambiguous(content: bytes) -> Any:
    """JSON without a name twice: two readers of signed bytes must not read two different things."""
    return json.loads(content, object_pairs_hook=_each_name_once)


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def vulnerability_statement(reference: str, digest: str, scan: dict[str, Any]) -> bytes:
    """An in-toto statement about what the scan found."""
    algorithm, _, content = digest.partition(":")
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": reference, "digest": {algorithm: content}}],
        "predicateType": VULNERABILITIES,
        "predicate": scan,
    }
    return orjson.dumps(statement, option=orjson.OPT_SORT_KEYS)


def pre_authentication_encoding(kind: str, payload: bytes) -> bytes:
    """What a DSSE signature is made over."""
    return b"DSSEv1 %d %b %d %b" % (len(kind.encode()), kind.encode(), len(payload), payload)


def dsse(statement: bytes, key: SigningKey) -> bytes:
    """The statement in a signed DSSE envelope."""
    signature = key.sign(pre_authentication_encoding(IN_TOTO, statement))
    envelope = {
        "payloadType": IN_TOTO,
        "payload": base64.b64encode(statement).decode(),
        "signatures": [{"keyid": key.id, "sig": base64.b64encode(signature).decode()}],
    }
    return orjson.dumps(envelope, option=orjson.OPT_SORT_KEYS)
