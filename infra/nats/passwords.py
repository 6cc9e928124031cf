"""Passwords of the bus: made at the first start, kept in a file each that nobody else may read, never a default."""

import base64
import hashlib
import os
from pathlib import Path

import bcrypt

from shared.clock import Ids
from shared.settings import secret

_ROUNDS = b"$2b$04$"
"""The least there is: the passwords are 256 random bits, so that slowness adds nothing but a slow start."""


class Passwords:
    """A folder with one password file a user."""

    def __init__(self, folder: Path, ids: Ids) -> None:
        self._folder = folder
        self._ids = ids

    def path(self, user: str) -> Path:
        """Where a user's password lies."""
        return self._folder / f"{user}.password"

    def of(self, user: str) -> str:
        """A user's password, made now if there is none. Raises SettingsWrong where others may read the file."""
        path = self.path(user)
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_secret(path, base64.urlsafe_b64encode(self._ids.secret(32)).decode().rstrip("="))
        return secret(path)

    def hashed(self, user: str) -> str:
        """What the server keeps of it; the same every time, so that a configuration changes only with its content."""
        password = self.of(user).encode()
        salt = base64.b64encode(hashlib.sha256(b"salt of " + password).digest()[:16]).decode().rstrip("=")
        return bcrypt.hashpw(password, _ROUNDS + _in_bcrypt_letters(salt).encode()).decode()


def write_secret(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    made = path.with_name(f".{path.name}.new")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


def _in_bcrypt_letters(base64_text: str) -> str:
    usual = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    ours = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    # 16 bytes leave four bits over in the last letter, which bcrypt wants to be zero.
    translated = base64_text.translate(str.maketrans(usual, ours))
    return translated[:21] + ours[ours.index(translated[21]) & 0b110000]
