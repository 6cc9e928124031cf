"""Public keys of attestors: what they are called, and whether a signature is theirs."""

import base64
import hashlib
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

Verify = Callable[[PublicKeyTypes, bytes, bytes], None]


def key_id_of(public: PublicKeyTypes) -> str:
    """The RFC 6920 name of a key: SHA-256 over its SubjectPublicKeyInfo."""
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "ni:///sha-256;" + base64.urlsafe_b64encode(hashlib.sha256(spki).digest()).decode().rstrip("=")


def load_pem(pem: str) -> PublicKeyTypes:
    """Read a PKIX public key; raises ValueError."""
    try:
        return serialization.load_pem_public_key(pem.encode())
    except Exception as error:  # the library raises several kinds, and panics of its parser, for bad PEM
        raise ValueError("publicKeyPem is not a PEM public key") from error


def check_algorithm(public: PublicKeyTypes, algorithm: str) -> None:
    """Raise ValueError when the algorithm is unknown or not one for this key."""
    name = _canonical(algorithm)
    if name not in _ALGORITHMS:
        raise ValueError(f"signatureAlgorithm {algorithm!r} is not one that is known here")
    if not _fits(public, name):
        raise ValueError(f"the key is not one for {algorithm}")


def verifies(pem: str, algorithm: str, signature: bytes, content: bytes) -> bool:
    """Whether the detached signature over `content` was made with the key."""
    public = load_pem(pem)
    name = _canonical(algorithm)
    if not _fits(public, name):
        return False
    try:
        _ALGORITHMS[name](public, signature, content)
    except InvalidSignature:
        return False
    return True


def _canonical(algorithm: str) -> str:
    """Google's aliases say the same in other words."""
    return algorithm.replace("RSA_SIGN_PSS_", "RSA_PSS_").replace("EC_SIGN_", "ECDSA_")


def _ecdsa(algorithm: hashes.HashAlgorithm) -> Verify:
    def verify(public: PublicKeyTypes, signature: bytes, content: bytes) -> None:
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        public.verify(signature, content, ec.ECDSA(algorithm))

    return verify


def _rsa(scheme: padding.AsymmetricPadding, algorithm: hashes.HashAlgorithm) -> Verify:
    def verify(public: PublicKeyTypes, signature: bytes, content: bytes) -> None:
        if not isinstance(public, rsa.RSAPublicKey):
            raise InvalidSignature
        public.verify(signature, content, scheme, algorithm)

    return verify


def _pss(algorithm: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    return padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)


_SHA256, _SHA384, _SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()

_ALGORITHMS: Final[dict[str, Verify]] = {
    "ECDSA_P256_SHA256": _ecdsa(_SHA256),
    "ECDSA_P384_SHA384": _ecdsa(_SHA384),
    "ECDSA_P521_SHA512": _ecdsa(_SHA512),
    **{f"RSA_PSS_{bits}_SHA256": _rsa(_pss(_SHA256), _SHA256) for bits in (2048, 3072, 4096)},
    **{f"RSA_SIGN_PKCS1_{bits}_SHA256": _rsa(padding.PKCS1v15(), _SHA256) for bits in (2048, 3072, 4096)},
    "RSA_PSS_4096_SHA512": _rsa(_pss(_SHA512), _SHA512),
    "RSA_SIGN_PKCS1_4096_SHA512": _rsa(padding.PKCS1v15(), _SHA512),
}

_CURVES: Final = {"P256": 256, "P384": 384, "P521": 521}


def _fits(public: PublicKeyTypes, name: str) -> bool:
    """Whether the key's kind and size are what the algorithm's name says."""
    words = name.split("_")
    if words[0] == "ECDSA":
        return isinstance(public, ec.EllipticCurvePublicKey) and public.curve.key_size == _CURVES.get(words[1])
    return isinstance(public, rsa.RSAPublicKey) and str(public.key_size) in words
