"""A key file as commands read it: what is wrong with it is a sentence and an exit code."""

import time
from pathlib import Path

from cli.exits import Failed, NotAllowed
from shared.identity.key_file import KeyFile, KeyFileBroken


def read(path: Path) -> KeyFile:
    """Read a key file. Raises NotAllowed where there is none, Failed where it is something else."""
    try:
        content = path.read_text()
    except FileNotFoundError:
        raise NotAllowed(f"the key file {path} is missing") from None
    except (OSError, ValueError) as error:
        raise Failed(f"{path} cannot be read: {error}") from error
    return parse(content, str(path))


def parse(content: str, place: str) -> KeyFile:
    """A key file's content. Raises Failed, naming the place where it stood."""
    try:
        return KeyFile.parse(content)
    except KeyFileBroken as error:
        raise Failed(f"{place} is {error}") from None


def assertion(key: KeyFile) -> str:
    """What is exchanged for an access token now. Raises Failed."""
    try:
        return key.assertion(time.time())
    except KeyFileBroken as error:
        raise Failed(str(error)) from None
