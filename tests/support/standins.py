"""Images made on this machine of what is installed on it, in place of those that would be fetched from a registry."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from infra.embedded import binaries
from tests.support import alone
from tests.support.engine import Engine

PATH = "/usr/local/bin:/usr/bin:/bin"
PYTHON, NATS, VALKEY, S3, GATEWAY = (f"standin/{name}:1" for name in ("python", "nats", "valkey", "weed", "nginx"))
EXTRAS = ("identity", "registry", "builder", "scanner", "attestor", "cleanup", "audit_log", "provision")
_RESOLVER = ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2")


def missing() -> str:
    """What a stand-in cannot be made of here; empty where all can."""
    for program in (binaries.NATS, binaries.VALKEY, binaries.WEED):
        try:
            binaries.find(program)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason
            return str(error)
    if _nginx() is None:
        return "nginx is not installed"
    return "" if next(importlib.metadata.distributions(name="pip"), None) else "pip is not installed"


def make(engine: Engine, folder: Path) -> None:
    """Put all of them into the engine."""
    folder.mkdir()
    engine.load(python_root(folder / "python"), PYTHON, [f"ENV PATH={PATH}"])
    for program, name in ((binaries.NATS, NATS), (binaries.VALKEY, VALKEY), (binaries.WEED, S3)):
        engine.load(_program_root(folder / program.name, binaries.find(program)), name, [f"ENV PATH={PATH}"])
    nginx = _nginx()
    assert nginx is not None
    engine.load(_program_root(folder / "nginx", nginx), GATEWAY, [f"ENV PATH={PATH}"])


def python_root(root: Path) -> Path:
    """The running interpreter with its library, pip, and what our images install: nothing is left for pip to fetch."""
    library = root / "usr" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(
        sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}),
        library,
        symlinks=False,
        ignore=shutil.ignore_patterns(
            "site-packages",
            "dist-packages",
            "EXTERNALLY-MANAGED",
            "test",
            "tests",
            "idlelib",
            "lib2to3",
            "tkinter",
            "turtledemo",
            "*.opt-[12].pyc",
            "config-*",
        ),
    )
    packages = library / "site-packages"
    packages.mkdir()
    _install(packages, {"pip", *(name for extra in EXTRAS for name in alone.libraries(extra))})
    _program_root(root, Path(sys.executable).resolve(), sorted(library.rglob("*.so*")))
    for name in ("python", "python3"):
        (root / "usr" / "bin" / name).symlink_to(Path(sys.executable).resolve().name)
    # Debian's Python looks for libraries there.
    elsewhere = root / "usr" / "local" / "lib" / library.name / "dist-packages"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.symlink_to(f"/usr/lib/{library.name}/site-packages")
    return root


def _install(folder: Path, libraries: Iterable[str]) -> None:
    for library in sorted(libraries):
        for file, source in alone.files(library):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / file)  # with its time, by which what was compiled of it is known


def _program_root(root: Path, program: Path, more: Sequence[Path] = ()) -> Path:
    """A root file system with a program and the shared libraries that it, and `more`, are linked with."""
    for place in ("usr/bin", "tmp", "etc"):
        (root / place).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc" / "nsswitch.conf").write_text("hosts: files dns\n")
    shutil.copy2(program, root / "usr" / "bin" / program.name)
    for library in linked([program, *more]):
        target = root / str(library).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library.resolve(), target)
        target.chmod(0o755)
    return root


def linked(programs: Sequence[Path]) -> set[Path]:
    """Absolute paths that the loader finds outside the folders of the programs themselves."""
    said = ""
    for first in range(0, len(programs), 100):
        batch = [str(program) for program in programs[first : first + 100]]
        said += subprocess.run(["ldd", *batch], capture_output=True, text=True, timeout=120, check=False).stdout
    found = {Path(match) for match in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said, re.MULTILINE)}
    own = {program.parent for program in programs}
    found = {library for library in found if not any(library.is_relative_to(folder) for folder in own)}
    beside = {library.parent / name for library in found if library.name.startswith("libc.so") for name in _RESOLVER}
    return {Path(os.path.normpath(path)) for path in found | beside if path.exists()}


def _nginx() -> Path | None:
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found).resolve() if found else None
