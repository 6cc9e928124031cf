"""The demo's Python application: wheels of an old and of a mended release, fetched once and kept.

Where there is no network the application's own two releases are all there is; they are made here, and the demo's own
advisory is about the first of them.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: Tells the time at a harbour\n"
_SECONDS = 120


@dataclass(frozen=True)
class Release:
    """What one version of the demo's image is made of."""

    tag: str
    application: str
    """Version of the application itself."""
    wheels: tuple[str, ...]
    """Requirements that are fetched, exactly pinned."""


OLD = Release("1.0.0", "1.0.0", ("jinja2==2.10", "packaging==24.0"))
MENDED = Release("1.0.1", "1.0.1", ("jinja2==3.1.6", "packaging==24.0"))


def site_packages(release: Release, cache: Path) -> tuple[Path, bool]:
    """A folder as a release would be installed into; says whether the wheels are in it (False: no network)."""
    folder = cache / f"site-{release.tag}"
    if (folder / "fetched").exists():
        return folder / "site", True
    _write_application(folder / "site", release.application)
    fetched = _fetch(release.wheels, folder / "site")
    if fetched:
        (folder / "fetched").touch()
    return folder / "site", fetched


def _fetch(wheels: tuple[str, ...], target: Path) -> bool:
    """Install wheels as they are, without running anything of theirs."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    only = ["--only-binary", ":all:", "--no-compile", "--target", str(target), "--upgrade", "--retries", "1"]
    try:
        done = subprocess.run([*command, *only, *wheels], capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _write_application(site: Path, version: str) -> None:
    package = site / "harbour_clock"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(f'"""Tells the time at a harbour."""\n\n__version__ = "{version}"\n')
    for old in site.glob("harbour_clock-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    described = site / f"harbour_clock-{version}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(_METADATA.format(name="harbour-clock", version=version))
    (described / "RECORD").write_text(f"harbour_clock/__init__.py,,\n{described.name}/METADATA,,\n")
