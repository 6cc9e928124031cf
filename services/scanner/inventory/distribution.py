"""Which Linux distribution an image is: os-release."""

import re

from pydantic import BaseModel, ConfigDict

FILES = ("etc/os-release", "usr/lib/os-release")
"""The first of these that is a file counts."""

_LINE = re.compile(rb"^(ID|VERSION_ID)=(?:\"([^\"\n]*)\"|'([^'\n]*)'|([^\s\"'#]*))\s*$", re.MULTILINE)


class Distribution(BaseModel):
    """A distribution and its release."""

    model_config = ConfigDict(frozen=True)

    id: str = ""
    version: str = ""

    @property
    def ecosystem(self) -> str:
        """The OSV ecosystem of its packages; empty where there is none, or the release is not known."""
        if not self.version:
            return ""
        return {"debian": f"Debian:{self.version.split('.')[0]}", "ubuntu": f"Ubuntu:{self.version}"}.get(self.id, "")


def distribution(content: bytes) -> Distribution:
    """What an os-release file says; empty where it says nothing."""
    fields = {found[1]: b"".join(found.groups(b"")[1:]).decode(errors="replace") for found in _LINE.finditer(content)}
    return Distribution(id=fields.get(b"ID", "")[:64].lower(), version=fields.get(b"VERSION_ID", "")[:64])
