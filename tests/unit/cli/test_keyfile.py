import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from cli import keyfile
from cli.exits import Failed, NotAllowed
from shared.identity.key_file import KeyFile, KeyFileBroken

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def written(folder: Path, key: Private) -> Path:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "key.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "ci@demo.iam.entrepot",
                "private_key_id": "k1",
                "private_key": pem,
                "token_uri": "http://127.0.0.1:5001/token",
            }
        )
    )
    return path


@pytest.fixture(params=["RS256", "ES256"])
def signer(request: pytest.FixtureRequest) -> tuple[str, Private]:
    if request.param == "RS256":
        return "RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return "ES256", ec.generate_private_key(ec.SECP256R1())


def test_an_assertion_is_what_its_receiver_expects(tmp_path: Path, signer: tuple[str, Private]) -> None:
    algorithm, key = signer
    assertion = keyfile.assertion(keyfile.read(written(tmp_path, key)))

    claims = jwt.decode(assertion, key.public_key(), [algorithm], audience="http://127.0.0.1:5001/token")
    assert claims["iss"] == claims["sub"] == "ci@demo.iam.entrepot"
    assert claims["exp"] - claims["iat"] == 3600
    assert jwt.get_unverified_header(assertion)["kid"] == "k1"


def test_a_missing_key_file_is_a_matter_of_who_one_is(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="is missing"):
        keyfile.read(tmp_path / "none.json")


@pytest.mark.parametrize("content", ["", "{}", "[]", '"text"', "\udcff".encode("utf-8", "surrogateescape").hex()])
def test_what_is_no_key_file_is_said_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "key.json").write_text(content)

    with pytest.raises(Failed, match="is not a key file"):
        keyfile.read(tmp_path / "key.json")


def test_a_key_that_cannot_be_read_is_said_so_without_a_word_of_it() -> None:
    broken = KeyFile("ci@demo.iam.entrepot", "k1", "s3cr3t", "http://127.0.0.1:5001/token", "s3cr3t")
    assert "s3cr3t" not in repr(broken)
    with pytest.raises(Failed, match="cannot be read") as found:
        keyfile.assertion(broken)
    assert "s3cr3t" not in str(found.value)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_is_a_key_file_or_is_refused(value: object) -> None:
    with pytest.raises(KeyFileBroken):
        KeyFile.parse(json.dumps(value))


@given(st.text())
def test_text_is_a_key_file_or_is_refused(text: str) -> None:
    with pytest.raises(KeyFileBroken):
        KeyFile.parse(text)
