"""The walk over tar headers: what Python's tarfile writes is read the same, and nothing hostile is unbounded."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scanner.layers.limits import MIB, LayerRefused, Limits
from services.scanner.layers.unpacking import Unpacking
from services.scanner.layers.walking import Kind, Member, TarWalk

FORMATS = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)

Walked = list[tuple[str, Kind, bytes, str]]


def walked(packed: bytes, *, limits: Limits | None = None, step: int = 1000) -> Walked:
    """Path, kind, content and link target of each member, read in pieces of `step` bytes."""
    limits = limits or Limits()
    members: list[Member] = []
    contents: dict[int, bytes] = {}

    def asked(member: Member) -> bool:
        members.append(member)
        return member.kind is Kind.FILE

    walk = TarWalk(asked, lambda _, content: contents.__setitem__(len(members) - 1, content), limits)
    unpacking = Unpacking(walk.feed, limits)
    for start in range(0, len(packed), step):
        unpacking.feed(packed[start : start + step])
    unpacking.end()
    walk.end()
    return [
        (member.path.decode().rstrip("/"), member.kind, contents.get(number, b""), member.target.decode())
        for number, member in enumerate(members)
    ]


KINDS = {tarfile.REGTYPE: Kind.FILE, tarfile.DIRTYPE: Kind.FOLDER, tarfile.LNKTYPE: Kind.HARD_LINK}


def as_tarfile_reads(plain: bytes) -> Walked:
    found: Walked = []
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        for member in archive:
            opened = archive.extractfile(member) if member.isreg() else None
            target = member.linkname if member.islnk() or member.issym() else ""
            found.append((member.name, KINDS.get(member.type, Kind.OTHER), opened.read() if opened else b"", target))
    return found


NAMES = st.lists(st.text("abé.-_ 0", min_size=1, max_size=60), min_size=1, max_size=6).map("/".join)
MEMBERS = st.tuples(
    NAMES,
    st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE]),
    st.binary(max_size=1500),
    NAMES,
)


def tar_of(members: list[tuple[str, bytes, bytes, str]], form: int) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=form) as archive:
        for name, kind, content, target in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            if kind in {tarfile.LNKTYPE, tarfile.SYMTYPE}:
                member.linkname = target
            archive.addfile(member, io.BytesIO(content))
    return plain.getvalue()


PACKERS: list[Callable[[bytes], bytes]] = [bytes, gzip.compress, zstandard.ZstdCompressor().compress]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(MEMBERS, max_size=8),
    st.sampled_from(FORMATS),
    st.sampled_from(PACKERS),
    st.sampled_from([7, 511, 512, 1000, 100_000]),
)
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(
    members: list[tuple[str, bytes, bytes, str]], form: int, pack: Callable[[bytes], bytes], step: int
) -> None:
    plain = tar_of(members, form)
    assert walked(pack(plain), step=step) == as_tarfile_reads(plain)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000), st.lists(MEMBERS, max_size=3), st.data())
def test_bytes_changed_at_random_are_read_or_refused_and_nothing_else(
    noise: bytes, members: list[tuple[str, bytes, bytes, str]], data: st.DataObject
) -> None:
    plain = bytearray(tar_of(members, tarfile.PAX_FORMAT))
    place = data.draw(st.integers(0, len(plain)))
    plain[place : place + len(noise)] = noise
    for pack in PACKERS:
        try:
            walked(pack(bytes(plain)), limits=Limits(unpacked=MIB, members=100))
        except (LayerRefused, UnicodeDecodeError):
            continue


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_what_looks_compressed_and_is_not_is_refused(noise: bytes) -> None:
    for start in (b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd"):
        with pytest.raises(LayerRefused):
            walked(start + noise + b"\xff" * 600)


def test_several_gzip_members_are_one_stream_and_zeros_behind_them_are_padding() -> None:
    plain = tar_of([("a", tarfile.REGTYPE, bytes(3000), "")], tarfile.GNU_FORMAT)
    packed = gzip.compress(plain[:700]) + gzip.compress(plain[700:]) + bytes(600)
    assert walked(packed, step=100) == as_tarfile_reads(plain)


def test_several_zstd_frames_with_a_skippable_one_between_are_one_stream() -> None:
    plain = tar_of([("a", tarfile.REGTYPE, bytes(3000), "")], tarfile.GNU_FORMAT)
    frames = [zstandard.ZstdCompressor().compress(part) for part in (plain[:700], plain[700:])]
    assert walked(frames[0] + b"\x50\x2a\x4d\x18\x04\0\0\0note" + frames[1], step=10) == as_tarfile_reads(plain)


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_stream_that_is_cut_off_is_refused(pack: Callable[[bytes], bytes], part: float) -> None:
    files = [(f"f{i}", tarfile.REGTYPE, hashlib.shake_128(b"%d" % i).digest(9000), "") for i in range(40)]
    packed = pack(tar_of(files, tarfile.GNU_FORMAT))
    with pytest.raises(LayerRefused):
        walked(packed[: int(len(packed) * part)])


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_bomb_is_refused_by_bytes_and_by_ratio(pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(64 * MIB))
    with pytest.raises(LayerRefused, match="more than 33554432 bytes"):
        walked(bomb, limits=Limits(unpacked=32 * MIB), step=10_000_000)
    header = tar_of([("a", tarfile.REGTYPE, bytes(48 * MIB), "")], tarfile.GNU_FORMAT)
    with pytest.raises(LayerRefused, match="250 times"):
        walked(pack(header), limits=Limits(ratio_from=MIB, file=64 * MIB), step=10_000_000)


def test_a_zstd_stream_that_wants_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(bytes(range(256)) * 4000) + packer.flush()
    with pytest.raises(LayerRefused, match=r"memory|[wW]indow"):
        walked(packed)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(members=3), "more than 3 members"),
        (Limits(path=100), "path in the archive is too long"),
        (Limits(extended_header=50), "extended header"),
        (Limits(file=10), "larger than 10 bytes"),
        (Limits(read=30), "package files are larger"),
    ],
)
def test_what_exceeds_a_limit_is_refused_with_the_limit_named(limits: Limits, reason: str) -> None:
    plain = tar_of([("d/" * 100 + f"f{i}", tarfile.REGTYPE, b"x" * 20, "") for i in range(5)], tarfile.GNU_FORMAT)
    with pytest.raises(LayerRefused, match=reason):
        walked(plain, limits=limits)


def test_a_size_in_base_256_is_understood_and_an_absurd_one_refused() -> None:
    plain = bytearray(tar_of([("a", tarfile.REGTYPE, b"content", "")], tarfile.GNU_FORMAT))

    def with_size(field: bytes) -> bytes:
        plain[124:136] = field
        plain[148:156] = b" " * 8
        plain[148:156] = b"%06o\0 " % sum(plain[:512])
        return bytes(plain)

    assert walked(with_size(b"\x80" + (7).to_bytes(11, "big")))[0][2] == b"content"
    for absurd in (b"\x80" + b"\xff" * 11, b"\xff" * 12, b"99999999999\0"):
        with pytest.raises(LayerRefused, match=r"absurd|malformed"):
            walked(with_size(absurd))


def test_a_header_that_was_tampered_with_is_refused() -> None:
    plain = bytearray(tar_of([("a", tarfile.REGTYPE, b"content", "")], tarfile.GNU_FORMAT))
    plain[0] = ord("b")
    with pytest.raises(LayerRefused, match="checksum"):
        walked(bytes(plain))


@pytest.mark.parametrize("record", [b"99 path=a\n", b"x path=a\n", b"9 path=a", b"0 a=b\n", b"6 =ab\n"])
def test_a_malformed_pax_header_is_refused(record: bytes) -> None:
    plain = bytearray(tar_of([("x" * 120, tarfile.REGTYPE, b"", "")], tarfile.PAX_FORMAT))
    plain[512:1024] = record.ljust(512, b"\1")
    with pytest.raises(LayerRefused):
        walked(bytes(plain))


def test_links_and_folders_have_no_content_whatever_their_size_says() -> None:
    plain = bytearray(
        tar_of([("link", tarfile.SYMTYPE, b"", "a"), ("b", tarfile.REGTYPE, b"x", "")], tarfile.GNU_FORMAT)
    )
    plain[124:136] = b"%011o\0" % 5000
    plain[148:156] = b" " * 8
    plain[148:156] = b"%06o\0 " % sum(plain[:512])
    assert [path for path, *_ in walked(bytes(plain))] == ["link", "b"]


def test_a_sparse_file_of_gnu_tar_is_stepped_over() -> None:
    header = bytearray(tar_of([("sparse", tarfile.REGTYPE, b"", "")], tarfile.GNU_FORMAT)[:512])
    header[156:157] = b"S"
    header[124:136] = b"%011o\0" % 512
    header[386:482] = (b"%011o\0" % 0 + b"%011o\0" % 512) * 4
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    further = bytearray(512)
    plain = bytes(header) + bytes(further) + b"s" * 512
    following = tar_of([("next", tarfile.REGTYPE, b"content", "")], tarfile.GNU_FORMAT)
    assert [path for path, *_ in walked(plain + following)] == ["sparse", "next"]
