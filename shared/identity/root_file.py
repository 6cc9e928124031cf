"""The private root key in its file, and the public half that every service has pinned."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from shared.identity.root import RootKeys
from shared.secret_files import write_once
from shared.settings import SettingsWrong, secret


def root_key(path: Path) -> EllipticCurvePrivateKey:
    """The root key in that file. Raises SettingsWrong where others can read it, or it holds something else."""
    try:
        key = load_pem_private_key(secret(path).encode(), None)
    except (ValueError, TypeError) as error:
        raise SettingsWrong(f"{path} holds no private key without a password") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise SettingsWrong(f"{path} must hold an elliptic curve key on P-256")
    return key


def make_root(private: Path, public: Path) -> None:
    """Make a root key, mode 0600, where there is none, and write its public half, for the settings of all services."""
    write_once(private, new_root_key())
    pem = RootKeys.of(root_key(private)).pem()
    if not public.exists() or public.read_bytes() != pem:
        public.write_bytes(pem)


def new_root_key() -> bytes:
    """A new root key, PEM."""
    return generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
