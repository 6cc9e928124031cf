import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cli.exits import Failed, NotAllowed
from cli.keyfile import KeyFile

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
    assertion = KeyFile.read(written(tmp_path, key)).assertion()

    claims = jwt.decode(assertion, key.public_key(), [algorithm], audience="http://127.0.0.1:5001/token")
    assert claims["iss"] == claims["sub"] == "ci@demo.iam.entrepot"
    assert claims["exp"] - claims["iat"] == 3600
    assert jwt.get_unverified_header(assertion)["kid"] == "k1"


def test_a_missing_key_file_is_a_matter_of_who_one_is(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="is missing"):
        KeyFile.read(tmp_path / "none.json")


@pytest.mark.parametrize("content", ["", "{}", "[]", '"text"', "\udcff".encode("utf-8", "surrogateescape").hex()])
def test_what_is_no_key_file_is_said_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "key.json").write_text(content)

    with pytest.raises(Failed, match="is not a key file"):
        KeyFile.read(tmp_path / "key.json")
