"""Layers are unpacked by any Python that the project promises to run on; Debian 12 has 3.11.2."""

import gzip
import io
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEBIANS = "/usr/bin/python3"
ALONE = ("unshare", "--map-root-user")
"""As without root: the root of a user namespace, who has no other ids to give."""
MACHINE: tuple[str, ...] = ()
STRANGE = """
import gzip, io, os, random, sys
from services.builder.errors import LayerRefused
from services.builder.unpack import unpack
plain, layers = gzip.decompress(open(sys.argv[2], "rb").read()), []
drawn = random.Random(1)
for number in range(600):
    changed = bytearray(plain)
    for _ in range(drawn.randint(1, 4)):
        changed[drawn.randrange(6 * 512)] = drawn.choice((0, 7, 46, 47, 49, 50, 53, 255, drawn.randrange(256)))
    packed = bytearray(gzip.compress(bytes(changed)) if number % 2 else changed)
    if number % 3 == 0:
        packed[drawn.randrange(len(packed))] = drawn.randrange(256)
    layers.append(bytes(packed[: drawn.randrange(len(packed))] if number % 5 == 0 else packed))
os.chdir(sys.argv[1])
os.chroot(".")
refused = 0
for layer in layers:
    try:
        unpack(io.BytesIO(layer), len(layer), 1_000_000, 1, 1)
    except (LayerRefused, OSError):
        refused += 1
print(refused)
"""
"""Layers with a few bytes changed, packed and not, some cut off: all in one process, as starting one takes long."""


def version(python: str) -> str:
    """Such as 3.11.2; nothing where there is none."""
    asked = [python, "-c", "import platform; print(platform.python_version())"]
    return (
        subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        if Path(python).exists()
        else ""
    )


def pythons() -> list[str]:
    """This one, and the machine's own where it is of the same line: libraries written in C fit both."""
    own, ours = version(DEBIANS), version(sys.executable)
    fits = own != ours and own.rpartition(".")[0] == ours.rpartition(".")[0]
    return [sys.executable, DEBIANS] if fits else [sys.executable]


def layer() -> bytes:
    """A file with a set-user-id bit, a directory, links of both kinds, and a whiteout."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, mode in (("bin/tool", 0o4755), ("etc/.wh.gone", 0o644)):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = 2, mode, 1002, 42
            archive.addfile(member, io.BytesIO(b"#!"))
        for name, kind, link in (
            ("var/empty", tarfile.DIRTYPE, ""),
            ("bin/soft", tarfile.SYMTYPE, "/bin/tool"),
            ("bin/hard", tarfile.LNKTYPE, "bin/tool"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode, member.uid = kind, link, 0o4755, 1002
            archive.addfile(member)
    return gzip.compress(packed.getvalue())


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)")
@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize(
    ("around", "owner"),
    [
        pytest.param(ALONE, os.getuid(), id="without root"),
        pytest.param(
            MACHINE, 1002, id="root", marks=pytest.mark.skipif(os.geteuid() != 0, reason="it takes root of the machine")
        ),
    ],
)
def test_a_layer_is_unpacked_as_it_is(python: str, around: tuple[str, ...], owner: int, tmp_path: Path) -> None:
    """The modes of files whose owner is not there are kept, too."""
    root, packed = tmp_path / "root", tmp_path / "layer"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "gone").touch()
    packed.write_bytes(layer())

    ran = run(python, ["-m", "services.builder.unpack", str(root), "1000000"], packed, around)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == [
        "bin",
        "bin/hard",
        "bin/soft",
        "bin/tool",
        "etc",
        "var",
        "var/empty",
    ]
    assert (root / "bin/tool").stat().st_mode & 0o7777 == 0o4755
    assert (root / "bin/tool").stat().st_uid == owner
    assert (root / "bin/soft").readlink() == Path("/bin/tool")
    assert (root / "bin/hard").samefile(root / "bin/tool")


def run(
    python: str, arguments: list[str], layer_file: Path, around: tuple[str, ...] = ALONE
) -> "subprocess.CompletedProcess[str]":
    """Run a program of Python, as the root of a user namespace unless told otherwise."""
    places = {"PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_path("platlib"))), "PATH": os.environ["PATH"]}
    with layer_file.open("rb") as opened:
        return subprocess.run(
            [*around, python, *arguments],
            stdin=opened,
            env=places,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)")
@pytest.mark.parametrize("python", pythons())
def test_a_layer_with_any_bytes_changed_or_cut_anywhere_is_unpacked_or_refused(python: str, tmp_path: Path) -> None:
    root, packed = tmp_path / "root", tmp_path / "layer"
    root.mkdir()
    packed.write_bytes(layer())

    ran = run(python, ["-c", STRANGE, str(root), str(packed)], packed)

    assert ran.returncode == 0, ran.stderr
    assert 0 < int(ran.stdout) < 600


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)")
@pytest.mark.parametrize(
    ("limit", "reason"), [("1000000", "more than 1000000 bytes"), ("900000000", "200 times its size")]
)
def test_a_bomb_is_refused_before_it_has_unpacked(limit: str, reason: str, tmp_path: Path) -> None:
    root, packed = tmp_path / "root", tmp_path / "layer"
    root.mkdir()
    member = tarfile.TarInfo("zeros")
    member.size = 100 * 1024 * 1024
    packed.write_bytes(gzip.compress(member.tobuf() + bytes(member.size), 1))

    ran = run(sys.executable, ["-m", "services.builder.unpack", str(root), limit], packed)

    assert ran.returncode == 1
    assert reason in ran.stderr
    assert (root / "zeros").stat().st_size < member.size


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)")
def test_a_layer_that_breaks_in_the_middle_of_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    root, packed = tmp_path / "root", tmp_path / "layer"
    root.mkdir()
    member = tarfile.TarInfo("text")
    member.size = 3_000_000
    content = bytearray(gzip.compress(member.tobuf() + random.Random(1).randbytes(member.size)))  # noqa: S311
    middle = len(content) // 2
    content[middle:] = b"\xff" * (len(content) - middle)
    packed.write_bytes(content)

    ran = run(sys.executable, ["-m", "services.builder.unpack", str(root), "900000000"], packed)

    assert ran.returncode == 1
    assert ran.stderr.startswith("the layer is damaged:")
