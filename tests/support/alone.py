"""One service with its own folder, `shared`, and only the libraries that its extra names: what its image would hold."""

import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.util import cache_from_source
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.suite import ROOT


def libraries(service: str) -> set[str]:
    """Names of the distributions that `pip install entrepot[SERVICE]` brings."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"][service.replace("_", "-")]
    found: set[str] = set()
    waiting = [Requirement(text) for text in [*project["dependencies"], *extra]]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name not in found:
            found.add(name)
        waiting += [one for one in _needed(wanted) if canonicalize_name(one.name) not in found]
    return found


def _needed(wanted: Requirement) -> Iterator[Requirement]:
    for text in importlib.metadata.requires(wanted.name) or []:
        one = Requirement(text)
        extras = wanted.extras or {""}
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
            yield one


def files(library: str) -> Iterator[tuple[Path, Path]]:
    """What belongs to a distribution: its name within the folder of packages, and where it lies here.

    What was compiled of it belongs to it, whether whoever installed it wrote that down or not: a service that has to
    compile its libraries takes three times as long to start.
    """
    for file in importlib.metadata.files(library) or []:
        source = Path(str(file.locate()))
        if ".." in file.parts or "__pycache__" in file.parts or not source.is_file():
            continue
        yield Path(file), source
        compiled = Path(cache_from_source(str(source)))
        if source.suffix == ".py" and compiled.is_file():
            yield Path(file).parent / "__pycache__" / compiled.name, compiled


def lay_out(folder: Path, service: str) -> Path:
    """Link the service's code and its libraries, file by file, into a folder of its own."""
    (folder / "services").mkdir(parents=True)
    (folder / "services" / "__init__.py").write_text("")
    (folder / "services" / service).symlink_to(ROOT / "services" / service)
    (folder / "shared").symlink_to(ROOT / "shared")
    for library in sorted(libraries(service)):
        for file, source in files(library):
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                target.symlink_to(source.resolve())
    return folder


def start(folder: Path, service: str, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Run the service there; -S keeps everything else that is installed out of its sight."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-S", "-s", "-m", f"services.{service}"],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(folder), **environment},
            stdout=out,
            stderr=out,
        )
