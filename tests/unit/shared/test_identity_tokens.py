"""Access tokens: what counts, what does not, and that it is asked again at every use."""

import base64
import dataclasses
import hmac
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from shared.clock import rfc3339
from shared.events.states import AccountKey, AccountState, KeyState, ProjectState
from shared.identity.directory import Directory
from shared.identity.root import RootKeys, vouched
from shared.identity.tokens import InvalidToken, Terms, TokenVerifier

NOW = 1_790_000_000.0
ROOT = generate_private_key(SECP256R1())
SIGNING = generate_private_key(SECP256R1())
ACCOUNT = AccountState(
    project="demo",
    email="ci@demo.iam.entrepot",
    unique_id="7",
    keys={"k1": AccountKey(public_key="-"), "k2": AccountKey(public_key="-", disabled=True)},
)


def key_fact(key_id: str = "s1", signing: Any = SIGNING, root: Any = ROOT, **changes: Any) -> KeyState:
    pem = signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    fact = KeyState(
        project="",
        key_id=key_id,
        public_key=pem,
        not_before=rfc3339(NOW - 100),
        not_after=rfc3339(NOW + 86400),
        signature="",
    )
    return vouched(fact.model_copy(update=changes), root)


@dataclasses.dataclass
class World:
    """A verifier, what it knows, and the time."""

    directory: Directory
    verifier: TokenVerifier
    time: list[float]

    def token(self, header: dict[str, Any] | None = None, signing: Any = None, **changes: Any) -> str:
        claims = {
            "iss": "https://entrepot.local",
            "aud": "entrepot",
            "sub": f"serviceAccount:{ACCOUNT.email}",
            "uid": "7",
            "key": "k1",
            "iat": int(NOW),
            "nbf": int(NOW),
            "exp": int(NOW) + 3600,
            "jti": "1",
            "use": "access",
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "ES256", "kid": "s1", **(header or {})}
        signing = signing or ECKey.import_key(SIGNING.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return jwt.encode(header, claims, signing, algorithms=[header["alg"]])

    def refused(self, token: str, reason: str) -> None:
        with pytest.raises(InvalidToken, match=reason):
            self.verifier.verify(token)


def world() -> World:
    time = [NOW]
    directory = Directory(lambda: time[0])
    directory.learn(key_fact())
    directory.learn(ACCOUNT)
    directory.learn(ProjectState(project="demo"))
    terms = Terms("https://entrepot.local", "entrepot")
    return World(directory, TokenVerifier(directory, RootKeys.of(ROOT), terms, lambda: time[0]), time)


def test_a_good_token_tells_account_key_and_end() -> None:
    caller = world().verifier.verify(world().token())
    assert (caller.member, caller.key, caller.expires) == (f"serviceAccount:{ACCOUNT.email}", "k1", NOW + 3600)
    assert caller.access is None


def test_a_registry_token_tells_what_it_is_limited_to() -> None:
    found = world()
    access = [{"type": "repository", "name": "demo/web/app", "actions": ["pull"]}]
    caller = found.verifier.verify(found.token(access=access))
    assert caller.access is not None
    assert caller.access[0].name == "demo/web/app"
    assert found.verifier.verify(found.token(access=[])).access == ()


def test_an_anonymous_token_needs_no_account() -> None:
    found = world()
    assert found.verifier.verify(found.token(sub="allUsers", uid=None, key=None, access=[])).anonymous


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://evil.example.org"}, "another issuer"),
        ({"aud": "other"}, "another audience"),
        ({"aud": ["entrepot"]}, "wrong form"),
        ({"exp": int(NOW)}, "expired"),
        ({"exp": int(NOW) + 3620}, "longer than"),
        ({"nbf": int(NOW) + 11}, "not valid yet"),
        ({"iat": int(NOW) + 11, "exp": int(NOW) + 100}, "not valid yet"),
        ({"exp": str(int(NOW) + 60)}, "wrong form"),
        ({"exp": None}, "wrong form"),
        ({"iat": None}, "wrong form"),
        ({"nbf": None}, "wrong form"),
        ({"sub": None}, "wrong form"),
        ({"use": None}, "wrong form"),
        ({"use": "id"}, "wrong form"),
        ({"access": {"type": "repository"}}, "wrong form"),
        ({"access": [{"type": "repository", "name": "x", "actions": "pull"}]}, "wrong form"),
        ({"uid": "8"}, "disabled or gone"),
        ({"sub": "serviceAccount:no@demo.iam.entrepot"}, "disabled or gone"),
        ({"key": "k2"}, "account key"),
        ({"key": "k3"}, "account key"),
    ],
)
def test_a_wrong_claim_is_refused(changes: dict[str, Any], reason: str) -> None:
    found = world()
    found.refused(found.token(**changes), reason)


def test_a_little_difference_of_clocks_is_forgiven() -> None:
    found = world()
    found.verifier.verify(found.token(nbf=int(NOW) + 9, iat=int(NOW) + 9, exp=int(NOW) + 60))


def test_none_and_other_algorithms_are_refused() -> None:
    found = world()
    header, claims, _ = found.token().split(".")
    pem = SIGNING.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), b""):
        symmetric = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"s1"}').decode().rstrip("=")
        signature = hmac.digest(secret, f"{symmetric}.{claims}".encode(), "sha256")
        sealed = base64.urlsafe_b64encode(signature).decode().rstrip("=")
        found.refused(f"{symmetric}.{claims}.{sealed}", "not a token signed")
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"s1"}').decode().rstrip("=")
    found.refused(f"{none}.{claims}.", "token's form")
    found.refused(f"{none}.{claims}.AA", "not a token signed")
    found.refused(f"{header}.{claims}.AA", "not a token signed")


def test_an_unknown_key_is_refused_whatever_the_header_offers() -> None:
    found = world()
    other = ECKey.generate_key("P-256")
    found.refused(found.token({"kid": "s2"}, other), "unknown key")
    offered = {"kid": "s2", "jwk": other.as_dict(private=False)}
    found.refused(found.token(offered, other), "unknown key|not a token signed")


def test_a_key_that_the_root_does_not_vouch_for_is_refused() -> None:
    found = world()
    own_root = generate_private_key(SECP256R1())
    found.directory.learn(key_fact(root=own_root), 1)
    found.refused(found.token(), "does not vouch")
    found.directory.learn(key_fact().model_copy(update={"not_after": rfc3339(NOW + 10**7)}), 2)
    found.refused(found.token(), "does not vouch")
    found.directory.learn(key_fact().model_copy(update={"signature": "%"}), 3)
    found.refused(found.token(), "does not vouch")


def test_a_key_outside_its_time_is_refused() -> None:
    found = world()
    found.directory.learn(key_fact(not_after=rfc3339(NOW - 1)), 1)
    found.refused(found.token(), "outside its time")
    found.directory.learn(key_fact(not_before=rfc3339(NOW + 60)), 2)
    found.refused(found.token(), "outside its time")


def test_a_remembered_token_ends_when_its_time_is_up() -> None:
    found = world()
    token = found.token()
    found.verifier.verify(token)
    found.time[0] = NOW + 3599
    found.verifier.verify(token)
    found.time[0] = NOW + 3600
    found.refused(token, "expired")


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        (ACCOUNT.model_copy(update={"disabled": True}), "disabled or gone"),
        (ACCOUNT.model_copy(update={"deleted": True}), "disabled or gone"),
        (ACCOUNT.model_copy(update={"unique_id": "8"}), "disabled or gone"),
        (ACCOUNT.model_copy(update={"keys": {}}), "account key"),
        (ACCOUNT.model_copy(update={"keys": {"k1": AccountKey(public_key="-", disabled=True)}}), "account key"),
        (
            ACCOUNT.model_copy(update={"keys": {"k1": AccountKey(public_key="-", not_after=rfc3339(NOW - 1))}}),
            "account key",
        ),
        (ProjectState(project="demo", state="DELETE_REQUESTED"), "being deleted"),
        (key_fact().model_copy(update={"deleted": True}), "no longer counts"),
    ],
)
def test_a_remembered_token_is_refused_as_soon_as_account_or_key_is_heard_to_be_out(fact: Any, reason: str) -> None:
    found = world()
    token = found.token()
    found.verifier.verify(token)
    found.directory.learn(fact, 1)
    found.refused(token, reason)


def test_a_remembered_token_counts_again_when_its_account_is_enabled_again() -> None:
    found = world()
    token = found.token()
    found.verifier.verify(token)
    found.directory.learn(ACCOUNT.model_copy(update={"disabled": True}), 1)
    found.refused(token, "disabled")
    found.directory.learn(ACCOUNT, 2)
    found.verifier.verify(token)


def test_what_is_remembered_stays_bounded() -> None:
    found = world()
    for number in range(8200):
        found.verifier._remember(number.to_bytes(4), found.verifier._verified(found.token()) if not number else None)  # type: ignore[arg-type]
    assert len(found.verifier._checked) <= 8192


def test_root_keys_are_read_from_pem_one_or_several_and_only_on_p256() -> None:
    other = generate_private_key(SECP256R1())
    both = RootKeys.parse(RootKeys.of(ROOT).pem() + RootKeys.of(other).pem())
    assert both.vouch_for(key_fact())
    assert both.vouch_for(key_fact(root=other))
    wrong = generate_private_key(SECP384R1()).public_key()
    for pem in (b"", b"x", wrong.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)):
        with pytest.raises(ValueError, match=r"."):
            RootKeys.parse(pem)


_WORLD = world()
_TOKEN = _WORLD.token()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(_TOKEN) - 1), st.sampled_from("AZaz09-_.=+/ \x00é"))
def test_a_token_with_any_other_letter_anywhere_is_refused(place: int, letter: str) -> None:
    tampered = _TOKEN[:place] + letter + _TOKEN[place + 1 :]
    if tampered == _TOKEN or place == len(_TOKEN) - 1:
        return  # the last letter of a base64 text has bits that mean nothing
    with pytest.raises(InvalidToken):
        _WORLD.verifier.verify(tampered)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_no_text_is_a_token_by_chance_nor_another_error(text: str) -> None:
    with pytest.raises(InvalidToken):
        _WORLD.verifier.verify(text)
