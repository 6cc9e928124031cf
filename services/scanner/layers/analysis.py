"""Finds in one pass over a layer what is said in it about packages."""

import posixpath
import re
from collections.abc import Callable

from services.scanner.inventory import distribution, dpkg, npm, pypi
from services.scanner.inventory.distribution import Distribution
from services.scanner.inventory.package import NotReadable, Package
from services.scanner.layers.facts import LayerFacts
from services.scanner.layers.limits import LayerRefused, Limits
from services.scanner.layers.unpacking import Unpacking
from services.scanner.layers.walking import Kind, Member, TarWalk

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_PATH = 64
"""Characters of a path that weigh as much as one more fact."""

# One look at the raw path rules out nearly all members, before anything is decoded.
_MAYBE = re.compile(
    rb"(?:^|/)(?:\.wh\.[^/]*|package\.json|METADATA|PKG-INFO|[^/]+\.egg-info|os-release)$|var/lib/dpkg/(?:status|info/)"
)

_Reader = Callable[[str, bytes], None]


class LayerAnalysis:
    """Takes a layer's packed bytes piece by piece; then tells its facts. Nothing here waits or does input or output."""

    def __init__(self, limits: Limits) -> None:
        """`limits` bound what is read."""
        self._limits = limits
        self._walk = TarWalk(self._asked, self._found, limits)
        self._unpacking = Unpacking(self._walk.feed, limits)
        self._reader: _Reader = self._read_nothing
        self._files: dict[str, tuple[Package, ...]] = {}
        self._distributions: dict[str, Distribution] = {}
        self._owned: dict[str, tuple[str, ...]] = {}
        self._hidden: list[str] = []
        self._emptied: list[str] = []
        self._remembered = self._unreadable = 0

    @property
    def unpacked(self) -> int:
        """Bytes after decompression so far."""
        return self._unpacking.unpacked

    @property
    def members(self) -> int:
        """Members so far."""
        return self._walk.members

    def feed(self, piece: bytes) -> None:
        """Analyse the next bytes. Raises LayerRefused."""
        self._unpacking.feed(piece)

    def end(self) -> LayerFacts:
        """What the layer says. Raises LayerRefused when it stops in the middle."""
        self._unpacking.end()
        self._walk.end()
        return LayerFacts(
            files=self._files,
            distributions=self._distributions,
            owned=self._owned,
            hidden=tuple(self._hidden),
            emptied=tuple(self._emptied),
            members=self.members,
            unpacked=self._unpacking.unpacked,
            unreadable=self._unreadable,
            remembered=self._remembered,
        )

    def _asked(self, member: Member) -> bool:
        if b".." in member.path:
            _clean(member.path)
        if not _MAYBE.search(member.path):
            return False
        path = _clean(member.path)
        folder, name = posixpath.split(path)
        if name.startswith(_WHITEOUT):
            self._whiteout(folder, name)
            return False
        reader = self._reader_of(path)
        if reader is None or member.kind is Kind.FOLDER:
            return False
        return self._described(path, member, reader)

    def _described(self, path: str, member: Member, reader: _Reader) -> bool:
        """Whether the content of a member that describes packages is wanted."""
        self._forget(path)
        if member.kind is Kind.FILE and not member.sparse:
            self._reader = reader
            return self._readable(path, member, reader)
        self._files[path] = self._files.get(_clean(member.target), ()) if member.kind is Kind.HARD_LINK else ()
        self._remember(path, 1 + len(self._files[path]))
        return False

    def _readable(self, path: str, member: Member, reader: _Reader) -> bool:
        """Whether the content has a size that it may have; dpkg's status and lists tell of many packages or files."""
        if reader in {self._read_status, self._read_list} or member.size <= self._limits.description:
            return True
        self._unreadable += 1
        if reader != self._read_distribution:
            self._files[path] = ()
            self._remember(path)
        return False

    def _found(self, member: Member, content: bytes) -> None:
        try:
            self._reader(_clean(member.path), content)
        except NotReadable:
            self._unreadable += 1

    def _forget(self, path: str) -> None:
        """A path that comes twice counts as it came last."""
        for found in (self._files, self._distributions, self._owned):
            found.pop(path, None)

    def _whiteout(self, folder: str, name: str) -> None:
        self._remember(f"{folder}/{name}")
        if name == _OPAQUE:
            self._emptied.append(folder)
        elif not name.startswith(".wh..wh."):  # names of the storage driver's own
            self._hidden.append(posixpath.join(folder, name.removeprefix(_WHITEOUT)))

    def _reader_of(self, path: str) -> _Reader | None:
        if path in distribution.FILES:
            return self._read_distribution
        if dpkg.LISTS.fullmatch(path):
            return self._read_list
        if path == dpkg.STATUS or (path.startswith(dpkg.STATUS_FOLDER) and path.count("/") == 4):
            return self._read_status
        if pypi.FILES.fullmatch(path):
            return self._read_pypi
        if npm.INSTALLED.fullmatch(path) or ("node_modules/" not in path and npm.APPLICATION.fullmatch(path)):
            return self._read_npm
        return None

    def _read_nothing(self, path: str, content: bytes) -> None:
        del path, content

    def _read_distribution(self, path: str, content: bytes) -> None:
        self._distributions[path] = distribution.distribution(content)

    def _read_list(self, path: str, content: bytes) -> None:
        owned: list[str] = []
        for file in dpkg.owned_language_files(content):
            self._remember(file)
            owned.append(file)
        if owned:
            self._owned[path] = tuple(owned)

    def _read_status(self, path: str, content: bytes) -> None:
        self._remember(path)
        found: list[Package] = []
        for package in dpkg.packages(content):
            if package is None:
                self._unreadable += 1
            else:
                self._remember(path="")
                found.append(package)
        self._files[path] = tuple(found)

    def _read_pypi(self, path: str, content: bytes) -> None:
        self._files[path] = ()
        self._remember(path)
        self._files[path] = (pypi.package(content),)

    def _read_npm(self, path: str, content: bytes) -> None:
        self._files[path] = ()
        self._remember(path)
        self._files[path] = (npm.package(content),)

    def _remember(self, path: str, count: int = 1) -> None:
        self._remembered += count + len(path) // _PATH
        if self._remembered > self._limits.facts:
            raise LayerRefused(f"the layer says more than {self._limits.facts} things about packages")


def _clean(path: bytes) -> str:
    """A member's path from the image's root. Raises LayerRefused for one that leads out of it."""
    text = posixpath.normpath("/" + path.decode(errors="surrogateescape").lstrip("/")).lstrip("/")
    depth = 0
    for segment in path.split(b"/"):
        depth += {b"..": -1, b".": 0, b"": 0}.get(segment, 1)
        if depth < 0:
            raise LayerRefused("a path in the archive leads out of the image")
    return text.encode(errors="replace").decode()
