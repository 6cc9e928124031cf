"""What callers write to prove who they are, and about perimeters: it is read, or refused in the one way there is."""

import base64
import json
from contextlib import suppress
from typing import Any

from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.identity.accounts import Key
from services.identity.api.token_request import read_query
from services.identity.assertions import Assertion, AssertionInvalid, Claimed, Reader
from services.identity.key_files import KeyFile, KeyFileInvalid, uploaded_public_key
from services.identity.perimeters import AccessPolicy, checked_id
from shared.http.errors import ApiError, Unauthenticated
from tests.support.identity import file_for, pair

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
CLAIMS = st.sampled_from(["iss", "sub", "aud", "iat", "exp", "nbf", "scope", "kid", "alg", "typ", "crit", "b64", "jwk"])
LEVEL = ["name", "title", "basic", "conditions", "ipSubnetworks", "members", "status", "spec", "resources"]
PERIMETER = ["accessLevels", "restrictedServices", "ingressPolicies", "ingressFrom", "ingressTo", "operations"]
PLACES = st.sampled_from([*LEVEL, *PERIMETER, "serviceName", "methodSelectors", "useExplicitDryRunSpec"])
DEEP = "[" * 100_000


def objects(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects, also within each other, many with fields that mean something."""
    inner = st.recursive(
        SCALARS,
        lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(names | st.text(max_size=3), deeper, max_size=4),
        max_leaves=8,
    )
    return st.dictionaries(names | st.text(max_size=3), inner, max_size=5)


def part(found: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(found).encode()).decode().rstrip("=")


def jwt_of(header: object, claims: object, tail: str) -> str:
    return f"{part(header)}.{part(claims)}.{tail}"


def pem_of(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


JWTS = st.builds(jwt_of, objects(CLAIMS), objects(CLAIMS), st.text())
READER = Reader(frozenset({"here"}), lambda: 1_000.0)
LABELS = st.sampled_from(["PUBLIC KEY", "CERTIFICATE", "PRIVATE KEY", "RSA PRIVATE KEY", "RSA PUBLIC KEY"])
PEMS = st.builds(pem_of, LABELS, st.binary(max_size=80))


@given(st.text() | JWTS)
@example(f"{base64.urlsafe_b64encode(DEEP.encode()).decode()[:16000]}..")
@example("..")
@example("\ud800.a.b")
def test_any_text_is_an_assertion_or_refused(text: str) -> None:
    with suppress(AssertionInvalid):
        assert isinstance(READER.claimed(text), Claimed)


@settings(max_examples=30, deadline=None)  # the first call makes a key
@given(objects(CLAIMS), objects(CLAIMS), st.binary(max_size=300))
def test_whatever_nobody_signed_is_nobodys(header: dict[str, Any], claims: dict[str, Any], signature: bytes) -> None:
    key = Key(id="k", public_key=pair().public, created="")
    sound = {"iss": "a@demo.iam.entrepot", "aud": "here", "iat": 990, "exp": 1_500, **claims}
    text = ".".join(
        (part({"alg": "RS256", "kid": "k", **header}), part(sound), base64.urlsafe_b64encode(signature).decode())
    )
    with suppress(AssertionInvalid):
        assert not isinstance(READER.read(text, {"k": key}), Assertion)


@given(st.text() | st.binary() | objects(st.sampled_from(list(file_for("a@b")))).map(json.dumps))
@example(DEEP[:16_000])
def test_anything_is_a_key_file_or_none(content: str | bytes) -> None:
    with suppress(KeyFileInvalid):
        KeyFile.parse(content)
    with suppress(KeyFileInvalid):
        KeyFile.parse_base64(content if isinstance(content, str) else base64.b64encode(content).decode())


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=200) | PEMS)
def test_any_text_is_a_private_key_or_none(text: str) -> None:
    file = KeyFile(type="service_account", private_key_id="k", private_key=text, client_email="a@b")
    with suppress(KeyFileInvalid):
        file.public_key()
    assert not file.opens(Key(id="k", public_key=pair().public, created=""))


@given(st.text() | st.binary().map(lambda found: base64.b64encode(found).decode()) | PEMS.map(lambda pem: base64.b64encode(pem.encode()).decode()))  # fmt: skip # noqa: E501
def test_any_upload_is_a_public_key_or_refused(data: str) -> None:
    with suppress(ApiError):
        uploaded_public_key(data)


@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0")))
@example("Basic")
@example("Basic " + base64.b64encode(b"\xff:\xff").decode())
@example("Basic " + base64.b64encode(b"no colon").decode())
def test_any_header_is_a_login_or_none_or_refused(header: str) -> None:
    request = make_mocked_request("GET", "/token?service=x", headers={"Authorization": header})
    with suppress(Unauthenticated):
        asked = read_query(request)
        assert asked.one("service") == "x"
        assert (asked.basic is not None) == (header.strip().lower().partition(" ")[0] == "basic")


@given(objects(PLACES))
def test_any_json_is_an_access_level_and_a_perimeter_or_refused(body: dict[str, Any]) -> None:
    for change in (AccessPolicy().with_level, AccessPolicy().with_perimeter):
        with suppress(ApiError):
            assert change("accessPolicies/1/accessLevels/a", body).sound()


@given(SCALARS | st.text().map(lambda text: f"accessPolicies/1/accessLevels/{text}"))
def test_any_name_is_of_its_parent_or_refused(name: object) -> None:
    parent = "accessPolicies/1/accessLevels"
    with suppress(ApiError):
        assert f"{parent}/{checked_id(name, parent)}" == name
