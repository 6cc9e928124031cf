"""JWTs that an account signed itself: what Google's newer clients send counts, and nothing that reaches further."""

import functools
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import rfc3339
from shared.events.states import AccountKey, AccountState, ProjectState
from shared.identity.directory import Directory
from shared.identity.root import RootKeys, account_signature
from shared.identity.self_signed import SCOPE, algorithm
from shared.identity.tokens import InvalidToken, Terms, TokenVerifier
from shared.settings import Settings

NOW = 1_790_000_000.0
ROOT = generate_private_key(SECP256R1())
EMAIL = "ci@demo.iam.entrepot"
HERE = "https://registry.example.org:5000"


@functools.cache
def private(name: str = "ci") -> RSAPrivateKey:
    del name
    return generate_rsa_key(65537, 2048)


def public(name: str = "ci") -> str:
    return private(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def account(root: Any = ROOT, key: dict[str, Any] | None = None, **changes: Any) -> AccountState:
    """An account whose key the root vouches for."""
    bare = AccountKey(public_key=public(), **(key or {}))
    found = AccountState(project="demo", email=EMAIL, unique_id="7", keys={"k1": bare}).model_copy(update=changes)
    signed = bare.model_copy(update={"signature": account_signature(found, "k1", root)})
    return found.model_copy(update={"keys": {"k1": signed}})


@dataclass
class World:
    """A service's verifier and what it knows."""

    directory: Directory
    verifier: TokenVerifier
    time: list[float]

    def refused(self, token: str, reason: str = ".") -> None:
        with pytest.raises(InvalidToken, match=reason):
            self.verifier.verify(token)


def world(*facts: AccountState) -> World:
    time = [NOW]
    directory = Directory(lambda: time[0])
    for fact in (ProjectState(project="demo"), *(facts or (account(),))):
        directory.learn(fact)
    terms = Terms("https://entrepot.local", "entrepot", frozenset({HERE}))
    return World(directory, TokenVerifier(directory, RootKeys.of(ROOT), terms, lambda: time[0]), time)


def signed(name: str = "ci", header: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {"iss": EMAIL, "sub": EMAIL, "aud": f"{HERE}/", "iat": int(NOW), "exp": int(NOW) + 3600, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, private(name), "RS256", {"kid": "k1", **(header or {})})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aud": HERE},
        {"aud": "https://artifactregistry.googleapis.com/"},
        {"aud": "https://logging.googleapis.com"},
        {"aud": None, "scope": f"https://www.googleapis.com/auth/logging.read {SCOPE}"},
    ],
)
def test_what_googles_clients_sign_themselves_counts_as_the_account_until_it_ends(changes: dict[str, Any]) -> None:
    found = world()
    token = signed(**changes)
    caller = found.verifier.verify(token)
    assert (caller.member, caller.key, caller.expires) == (f"serviceAccount:{EMAIL}", "k1", NOW + 3600)
    assert caller.access is None
    found.time[0] += 3599
    assert found.verifier.verify(token) == caller
    found.time[0] += 1
    found.refused(token, "expired")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "https://registry.example.org"}, "another audience"),
        ({"aud": "https://oauth2.googleapis.com/token"}, "another audience"),
        ({"aud": "entrepot"}, "another audience"),
        ({"aud": "https://artifactregistry.googleapis.com.example.org/"}, "another audience"),
        ({"aud": [HERE]}, "wrong form"),
        ({"aud": None}, "scope of everything"),
        ({"aud": "", "scope": "https://www.googleapis.com/auth/logging.read"}, "scope of everything"),
        ({"sub": "admin@demo.iam.entrepot"}, "somebody else"),
        ({"sub": None}, "wrong form"),
        ({"iat": int(NOW) - 7200, "exp": int(NOW) - 3600}, "expired"),
        ({"iat": int(NOW) + 120, "exp": int(NOW) + 600}, "not valid yet"),
        ({"exp": int(NOW) + 3601}, "longer"),
        ({"iat": int(NOW) + 30, "exp": int(NOW) + 20}, "longer"),
        ({"exp": None}, "wrong form"),
        ({"iss": "eve@demo.iam.entrepot", "sub": "eve@demo.iam.entrepot"}, "not signed by a key"),
        ({"name": "another"}, "not signed by a key"),
        ({"header": {"kid": "k2"}}, "not signed by a key"),
    ],
)
def test_what_reaches_further_or_is_not_proven_is_refused(changes: dict[str, Any], reason: str) -> None:
    world().refused(signed(**changes), reason)


@pytest.mark.parametrize("algorithm", ["RS512", "PS256", "HS256"])
def test_only_the_one_algorithm_counts(algorithm: str) -> None:
    claims = {"iss": EMAIL, "sub": EMAIL, "aud": HERE, "iat": int(NOW), "exp": int(NOW) + 60}
    key: Any = "x" * 64 if algorithm == "HS256" else private()
    world().refused(jwt.encode(claims, key, algorithm, {"kid": "k1"}))


@pytest.mark.parametrize(
    "fact",
    [
        account(generate_private_key(SECP256R1())),
        account().model_copy(update={"unique_id": "8"}),
        AccountState(project="demo", email=EMAIL, unique_id="7", keys={"k1": AccountKey(public_key=public())}),
        account().model_copy(
            update={"keys": {"k1": account().keys["k1"].model_copy(update={"public_key": public("another")})}}
        ),
    ],
    ids=["another root", "another account's key", "no signature", "another public key"],
)
def test_a_key_that_the_root_does_not_vouch_for_signs_nothing(fact: AccountState) -> None:
    world(fact).refused(signed(), "not signed by a key")
    world(fact).refused(signed("another"), "not signed by a key")


def test_without_a_pinned_root_nothing_counts() -> None:
    found = world()
    verifier = TokenVerifier(found.directory, RootKeys(()), Terms("x", "y", frozenset({HERE})), lambda: NOW)
    with pytest.raises(InvalidToken):
        verifier.verify(signed())


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (account(disabled=True), "disabled or gone"),
        (account(deleted=True), "disabled or gone"),
        (account(unique_id="8"), "disabled or gone"),
        (account(key={"disabled": True}), "account key that is disabled"),
        (ProjectState(project="demo", state="DELETE_REQUESTED"), "project is being deleted"),
    ],
)
def test_a_remembered_one_is_refused_as_soon_as_account_key_or_project_is_heard_to_be_out(
    after: Any, reason: str
) -> None:
    found = world()
    found.verifier.verify(signed())
    found.directory.learn(after, 1)
    found.refused(signed(), reason)
    found.directory.learn(account(), 2)
    found.directory.learn(ProjectState(project="demo"), 2)
    found.verifier.verify(signed())


def test_a_key_that_ends_ends_what_it_signed() -> None:
    found = world(account(key={"not_after": rfc3339(NOW + 100)}))
    found.verifier.verify(signed())
    found.time[0] += 101
    found.refused(signed())


def test_where_a_process_can_be_reached_is_taken_from_its_settings() -> None:
    assert Terms.of(Settings(public_url="https://a.example.org/")).addresses == {"https://a.example.org"}
    assert Terms.of(Settings(port=5001)).addresses == {"http://127.0.0.1:5001"}
    assert Terms.of(Settings()).addresses == frozenset()


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}"))
def test_no_text_has_an_algorithm_that_is_not_a_text(text: str) -> None:
    assert isinstance(algorithm(text), str)
