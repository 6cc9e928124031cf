"""A walk over a tar stream from header to header: names and links of all members, the content of those asked for.

Python's tarfile builds an object for each member and costs some 25 times as much. Where archives can be read in more
than one way, this reads them as the Go library does that container runtimes unpack with: global pax headers are
ignored, links and folders have no content whatever their size field says.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from services.scanner.layers.limits import LayerRefused, Limits

BLOCK = 512
_END = bytes(BLOCK)

_REGULAR = frozenset(b"07\0")
_NO_CONTENT = frozenset(b"123456")
_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL_PAX, _SPARSE = (ord(letter) for letter in "LKxgS")
_FOLDER, _HARD_LINK = ord("5"), ord("1")

_OCTAL = re.compile(rb"[0-7]{1,8}")
_PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=]+)=")


class Kind(Enum):
    """What a member is, as far as it matters here."""

    FILE = "file"
    FOLDER = "folder"
    HARD_LINK = "hard link"
    OTHER = "other"


@dataclass(frozen=True)
class Member:
    """One member of an archive."""

    path: bytes
    """As the archive writes it."""
    kind: Kind
    size: int
    """Bytes of content in the archive."""
    target: bytes = b""
    """What a link points to."""
    sparse: bool = False


Asked = Callable[[Member], bool]
Found = Callable[[Member, bytes], None]


class TarWalk:
    """Takes a tar's bytes in pieces of any size."""

    def __init__(self, asked: Asked, found: Found, limits: Limits) -> None:
        """`asked` says of each member whether its content is wanted; then `found` gets it."""
        self._asked, self._found, self._limits = asked, found, limits
        self._wanted = BLOCK
        """Bytes to gather before `_take` is called with them."""
        self._gathered = bytearray()
        self._take: Callable[[bytes], None] = self._header
        self._skip = 0
        self._long_name = self._long_link = b""
        self._pax: dict[bytes, bytes] = {}
        self.members = 0
        self._read = 0
        self._zeros = 0
        self._ended = False

    def feed(self, chunk: bytes) -> None:
        """Walk over the next bytes. Raises LayerRefused."""
        position, end = 0, len(chunk)
        while position < end and not self._ended:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
            elif not self._gathered and end - position >= self._wanted:
                start, position = position, position + self._wanted
                self._take(chunk[start:position])
            else:
                step = min(self._wanted - len(self._gathered), end - position)
                self._gathered += chunk[position : position + step]
                position += step
                if len(self._gathered) == self._wanted:
                    gathered, self._gathered = bytes(self._gathered), bytearray()
                    self._take(gathered)

    def end(self) -> None:
        """Say that no more comes. Raises LayerRefused when the archive stops inside a member."""
        if self._skip or self._gathered or self._take != self._header or self._long_name or self._pax:
            raise LayerRefused("the archive is cut off")

    def _header(self, header: bytes) -> None:
        if header == _END:
            self._zeros += 1
            self._ended = self._zeros == 2
            return
        self._zeros = 0
        self.members += 1
        if self.members > self._limits.members:
            raise LayerRefused(f"the archive has more than {self._limits.members} members")
        _check_sum(header)
        kind = header[156]
        if kind in {_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL_PAX}:
            self._gather_extension(kind, _number(header[124:136]))
        else:
            self._member(header, kind)

    def _gather_extension(self, kind: int, size: int) -> None:
        if size > self._limits.extended_header:
            raise LayerRefused("an extended header of the archive is too long")
        if size:
            self._gather(size, lambda content: self._extension(kind, content[:size]))

    def _extension(self, kind: int, content: bytes) -> None:
        self._back_to_headers()
        if kind == _LONG_NAME:
            self._long_name = content.split(b"\0", 1)[0]
        elif kind == _LONG_LINK:
            self._long_link = content.split(b"\0", 1)[0]
        elif kind == _PAX:
            self._pax = _pax_records(content)

    def _member(self, header: bytes, kind: int) -> None:
        member = self._described(header, kind)
        self._long_name = self._long_link = b""
        self._pax = {}
        if kind == _SPARSE and header[482]:
            self._gather(BLOCK, lambda block: self._sparse_map(block, member))
        else:
            self._content(member)

    def _sparse_map(self, block: bytes, member: Member) -> None:
        self._back_to_headers()
        if block[504]:
            self._gather(BLOCK, lambda further: self._sparse_map(further, member))
        else:
            self._content(member)

    def _content(self, member: Member) -> None:
        if len(member.path) > self._limits.path:
            raise LayerRefused("a path in the archive is too long")
        if not self._asked(member):
            self._skip = _padded(member.size)
        elif not member.size:
            self._found(member, b"")
        else:
            self._gather_content(member)

    def _gather_content(self, member: Member) -> None:
        self._read += member.size
        if member.size > self._limits.file:
            raise LayerRefused(f"{_shown(member.path)} is larger than {self._limits.file} bytes")
        if self._read > self._limits.read:
            raise LayerRefused(f"the archive's package files are larger than {self._limits.read} bytes")

        def found(content: bytes) -> None:
            self._back_to_headers()
            self._found(member, content[: member.size])

        self._gather(member.size, found)

    def _gather(self, size: int, take: Callable[[bytes], None]) -> None:
        self._wanted, self._take = _padded(size), take

    def _back_to_headers(self) -> None:
        self._wanted, self._take = BLOCK, self._header

    def _described(self, header: bytes, kind: int) -> Member:
        pax = self._pax
        path = pax.get(b"GNU.sparse.name") or pax.get(b"path") or self._long_name or _name(header)
        size = 0 if kind in _NO_CONTENT else _pax_number(pax[b"size"]) if b"size" in pax else _number(header[124:136])
        target = pax.get(b"linkpath") or self._long_link or header[157:257].split(b"\0", 1)[0]
        sparse = kind == _SPARSE or any(key.startswith(b"GNU.sparse.") for key in pax)
        return Member(path, _kind(kind, path), size, target, sparse)


def _kind(letter: int, path: bytes) -> Kind:
    if letter == _FOLDER or (letter == 0 and path.endswith(b"/")):
        return Kind.FOLDER
    if letter == _HARD_LINK:
        return Kind.HARD_LINK
    return Kind.OTHER if letter in _NO_CONTENT else Kind.FILE


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and header[345]:
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def _number(field: bytes) -> int:
    """A number field: octal digits, or base 256 when the first bit is set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise LayerRefused("a size in the archive is negative or absurd")
        return _bounded(int.from_bytes(field[1:], "big"))
    digits = field.split(b"\0", 1)[0].strip()
    if not digits:
        return 0
    try:
        return _bounded(int(digits, 8))
    except ValueError as error:
        raise LayerRefused("a number in the archive's headers is malformed") from error


def _pax_number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise LayerRefused("a size in the archive is malformed")
    return _bounded(int(text))


def _bounded(size: int) -> int:
    if not 0 <= size < 1 << 50:
        raise LayerRefused("a size in the archive is negative or absurd")
    return size


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _check_sum(header: bytes) -> None:
    field = header[148:156]
    digits = field.strip(b" \0")
    expected = int(digits, 8) if _OCTAL.fullmatch(digits) else -1
    plain = sum(header) - sum(field) + 256
    if expected == plain:
        return
    negative = 256 * sum(byte > 127 for byte in (*header[:148], *header[156:]))
    if expected != plain - negative:  # old tars summed signed bytes
        raise LayerRefused("the archive is no tar, or broken: a header's checksum is wrong")


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(content) and content[position]:
        found = _PAX_RECORD.match(content, position)
        end = position + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise LayerRefused("a pax header of the archive is malformed")
        records[found[2]] = content[found.end() : end - 1]
        position = end
    return records


def _shown(path: bytes) -> str:
    return path[-200:].decode(errors="replace")
