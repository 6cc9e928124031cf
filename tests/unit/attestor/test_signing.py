import base64

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from services.attestor.attestors import Attestor, AttestorKey, PkixPublicKey
from services.attestor.facts import Evidence, Signature
from services.attestor.master_key import made_once, master_from
from services.attestor.payloads import (
    PayloadInvalid,
    dsse,
    pre_authentication_encoding,
    read_simple_signing,
    simple_signing,
    vulnerability_statement,
)
from services.attestor.public_keys import verifies
from services.attestor.signing import KeyUnreadable, Master, SigningKey, from_seed
from services.attestor.verification import MOST_EVIDENCE, Finding, examined, refusal
from shared.settings import SettingsWrong

DIGEST = "sha256:" + "1" * 64
KEY = from_seed(b"\1" * 48)
NOTE = "projects/demo/notes/n"


def test_the_same_content_is_signed_the_same_so_that_what_runs_twice_writes_one_attestation() -> None:
    assert KEY.sign(b"content") == KEY.sign(b"content")


def pem(public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(serialization.Encoding.PEM, spki).decode()


def attestor(*keys: AttestorKey) -> Attestor:
    content = {"userOwnedGrafeasNote": {"noteReference": NOTE}}
    found = Attestor.model_validate(content).settled("projects/demo/attestors/a", "now")
    for key in keys:
        found = found.with_key(key)
    return found


def evidence(key: SigningKey = KEY, digest: str = DIGEST, note: str = NOTE, payload: bytes | None = None) -> Evidence:
    content = simple_signing("localhost:5000/demo/web/app", digest) if payload is None else payload
    signature = Signature(key_id=key.id, signature=base64.b64encode(key.sign(content)).decode())
    return Evidence(note=note, payload=base64.b64encode(content).decode(), signatures=(signature,))


def test_a_sealed_key_opens_with_its_master_key_for_its_attestor_only() -> None:
    old, new = b"o" * 32, b"n" * 32
    sealed = Master([old]).seal(KEY, "attestor a", b"0" * 12)
    assert b"PRIVATE" not in sealed
    assert Master([new, old]).open(sealed, "attestor a").id == KEY.id
    for master, about in ((Master([new]), "attestor a"), (Master([old]), "attestor b")):
        with pytest.raises(KeyUnreadable):
            master.open(sealed, about)
    with pytest.raises(KeyUnreadable):
        Master([old]).open(b"nonsense", "attestor a")


def test_the_master_key_is_made_once_and_only_for_its_owner(tmp_path) -> None:  # noqa: ANN001
    path = tmp_path / "data" / "master.key"
    first = made_once(path, lambda size: b"\7" * size)
    assert path.stat().st_mode & 0o777 == 0o600
    assert made_once(path, lambda size: b"\10" * size) == first == master_from(path)
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o644)
    with pytest.raises(SettingsWrong, match="read by others"):
        master_from(path)


def test_an_attestation_counts_for_its_attestor_and_digest() -> None:
    found = attestor(KEY.public("ours"))
    assert refusal(found, DIGEST, evidence()) == ""
    assert examined(found, DIGEST, [evidence(from_seed(b"\2" * 48)), evidence()]).attested


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (evidence(note="projects/demo/notes/other"), "another note"),
        (evidence(digest="sha256:" + "2" * 64), "another digest"),
        (evidence(from_seed(b"\2" * 48)), "no key of the attestor"),
        (evidence(payload=b"{}"), "no container signature"),
        (evidence(payload=b'{"critical":1,"critical":2}'), "no container signature"),
        (evidence().model_copy(update={"payload": "?"}), "base64"),
        (evidence().model_copy(update={"signatures": (Signature(key_id=KEY.id, signature="AAAA"),)}), "does not hold"),
        (evidence().model_copy(update={"signatures": (Signature(key_id=KEY.id, signature="?"),)}), "does not hold"),
    ],
)
def test_an_attestation_that_does_not_count_says_why(made: Evidence, reason: str) -> None:
    assert reason in refusal(attestor(KEY.public("ours")), DIGEST, made).replace("Invalid base64", "base64").replace(
        "Only base64", "base64"
    ).replace("Incorrect padding", "base64")


def test_an_attestor_without_keys_vouches_for_nothing() -> None:
    assert not examined(attestor(), DIGEST, [evidence()]).attested


def test_attestations_that_are_piled_up_by_others_crowd_nothing_out() -> None:
    found = attestor(KEY.public("ours"))
    stranger = evidence(from_seed(b"\2" * 48))
    strangers = [stranger.model_copy(update={"generation": number}) for number in range(1000)]
    assert examined(found, DIGEST, [*strangers, evidence()]) == Finding(attested=True)


def test_of_too_many_with_a_key_of_the_attestor_the_newest_are_looked_at_and_the_rest_is_told() -> None:
    found = attestor(KEY.public("ours"))
    forged = evidence().model_copy(update={"signatures": (Signature(key_id=KEY.id, signature="AAAA"),)})
    pile = [forged.model_copy(update={"generation": number}) for number in range(1, MOST_EVIDENCE + 3)]
    assert examined(found, DIGEST, [*pile, evidence()]) == Finding(attested=False, unseen=3)
    newest = evidence().model_copy(update={"generation": 1000})
    assert examined(found, DIGEST, [*pile, newest]) == Finding(attested=True)
    our_own = evidence().model_copy(update={"image": "local/web/app"})
    assert examined(found, DIGEST, [*pile, our_own]) == Finding(attested=True)


CURVES = {
    "ECDSA_P256_SHA256": (ec.SECP256R1(), hashes.SHA256()),
    "EC_SIGN_P384_SHA384": (ec.SECP384R1(), hashes.SHA384()),
    "ECDSA_P521_SHA512": (ec.SECP521R1(), hashes.SHA512()),
}


@pytest.mark.parametrize("algorithm", CURVES)
def test_elliptic_curve_signatures_verify_by_googles_names(algorithm: str) -> None:
    curve, hashed = CURVES[algorithm]
    private = ec.derive_private_key(12345, curve)
    signature = private.sign(b"content", ec.ECDSA(hashed))
    assert verifies(pem(private.public_key()), algorithm, signature, b"content")
    assert not verifies(pem(private.public_key()), algorithm, signature, b"other")
    assert not verifies(pem(private.public_key()), "RSA_PSS_2048_SHA256", signature, b"content")


def test_rsa_signatures_verify_by_googles_names() -> None:
    private = rsa.generate_private_key(65537, 2048)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    made = {
        "RSA_PSS_2048_SHA256": private.sign(b"content", pss, hashes.SHA256()),
        "RSA_SIGN_PSS_2048_SHA256": private.sign(b"content", pss, hashes.SHA256()),
        "RSA_SIGN_PKCS1_2048_SHA256": private.sign(b"content", padding.PKCS1v15(), hashes.SHA256()),
    }
    for algorithm, signature in made.items():
        assert verifies(pem(private.public_key()), algorithm, signature, b"content")
        assert not verifies(pem(private.public_key()), algorithm, signature, b"other")
    assert not verifies(pem(private.public_key()), "RSA_PSS_4096_SHA256", made["RSA_PSS_2048_SHA256"], b"content")


def test_a_key_without_an_id_gets_its_own_name_and_a_bad_one_is_refused() -> None:
    public = pem(KEY.private.public_key())
    pkix = PkixPublicKey(public_key_pem=public, signature_algorithm="ECDSA_P256_SHA256")
    assert AttestorKey(pkix_public_key=pkix).named().id == KEY.id
    assert AttestorKey(id="urn:mine", pkix_public_key=pkix).named().id == "urn:mine"
    for bad in ({"public_key_pem": "x"}, {"signature_algorithm": "MD5"}, {"signature_algorithm": "ECDSA_P384_SHA384"}):
        with pytest.raises(ValueError):
            PkixPublicKey(**{"public_key_pem": public, "signature_algorithm": "ECDSA_P256_SHA256", **bad})
    with pytest.raises(ValueError, match="OpenPGP"):
        AttestorKey(ascii_armored_pgp_public_key="-----BEGIN PGP PUBLIC KEY BLOCK-----")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_payload_or_refused(content: bytes) -> None:
    try:
        read_simple_signing(content)
    except PayloadInvalid:
        return
    raise AssertionError("random bytes are no payload")


def test_the_dsse_envelope_is_signed_over_its_pre_authentication_encoding() -> None:
    import orjson  # noqa: PLC0415

    statement = vulnerability_statement("h/p", DIGEST, {"result": {}})
    envelope = orjson.loads(dsse(statement, KEY))
    assert base64.b64decode(envelope["payload"]) == statement
    content = pre_authentication_encoding("application/vnd.in-toto+json", statement)
    assert content.startswith(b"DSSEv1 28 application/vnd.in-toto+json ")
    public, signature = pem(KEY.private.public_key()), base64.b64decode(envelope["signatures"][0]["sig"])
    assert verifies(public, "ECDSA_P256_SHA256", signature, content)
    assert orjson.loads(statement)["subject"] == [{"name": "h/p", "digest": {"sha256": "1" * 64}}]
