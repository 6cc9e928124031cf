"""Image references as steps and `images:` write them: HOST/PATH[:TAG][@DIGEST]."""

import ipaddress
import re
from dataclasses import dataclass

from services.builder.errors import ImageUnavailable
from shared.digest import Digest

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_FORM = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?)/"
    rf"(?P<name>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha(?:256|512):[0-9a-f]+))?"
)


@dataclass(frozen=True)
class Reference:
    """Where an image lies."""

    host: str
    name: str
    tag: str = ""
    digest: str = ""

    @property
    def wanted(self) -> str:
        """What to ask the registry for."""
        return self.digest or self.tag or "latest"

    @property
    def local(self) -> bool:
        """Whether the host is this machine, where registries speak plain HTTP."""
        host = self.host.rpartition(":")[0] if re.search(r":\d+$", self.host) else self.host
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host.strip("[]")).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        """As it is written."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.name}{tag}{digest}"


def parse_reference(text: str) -> Reference:
    """Read a reference; raises ImageUnavailable for one without a host, since there is no registry to assume."""
    found = _FORM.fullmatch(text) if len(text) <= 512 else None
    if not found or not re.search(r"[.:]|^localhost$|^\[", found["host"]):
        raise ImageUnavailable(f"not an image reference with a registry's host in front: {text[:200]!r}")
    digest = found["digest"] or ""
    try:
        checked = Digest.parse(digest) if digest else ""
    except ValueError as invalid:
        raise ImageUnavailable(str(invalid)) from None
    return Reference(found["host"], found["name"], found["tag"] or "", checked)
