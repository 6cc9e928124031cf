"""Layers are unpacked by any Python that the project promises to run on; Debian 12 has 3.11.2."""

import gzip
import io
import os
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
    command = [*around, python, "-m", "services.builder.unpack", str(root), "1000000"]
    places = {"PYTHONPATH": os.pathsep.join((str(ROOT), sysconfig.get_path("platlib"))), "PATH": os.environ["PATH"]}

    with packed.open("rb") as opened:
        ran = subprocess.run(command, stdin=opened, env=places, capture_output=True, text=True, timeout=60, check=False)

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
