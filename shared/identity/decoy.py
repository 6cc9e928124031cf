"""A public key that is nobody's, to check signatures with where there is no account or no such key.

Whoever is refused must not learn from the time it took whether there is an account of that name.
"""

import functools
import hashlib

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_BITS = 2048


@functools.cache
def decoy() -> str:
    """An RSA key of the usual size, PEM. Its modulus is a digest: no private half was ever made."""
    digest = hashlib.shake_256(b"entrepot: nobody's key").digest(_BITS // 8)
    modulus = int.from_bytes(digest) | 1 | 1 << (_BITS - 1)
    public = RSAPublicNumbers(65537, modulus).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
