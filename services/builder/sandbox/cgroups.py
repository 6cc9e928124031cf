"""Control groups of steps: what one may use of memory, processes and processors. Made and removed by the worker."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MOUNTED = Path("/sys/fs/cgroup")
FOLDER = "entrepot-builder"
_PERIOD = 100_000
_FIRST_VERSION = ("memory", "pids", "cpu")


@dataclass(frozen=True)
class Limits:
    """What one step may use."""

    memory: int = 0
    """Bytes; 0: as much as there is."""
    processes: int = 4096
    processors: float = 0.0
    """1.5: the time of one and a half; 0: all."""


@dataclass(frozen=True)
class Cgroups:
    """Where this worker makes groups; without places none can be made, and `refusal` says why."""

    places: tuple[Path, ...]
    unified: bool
    refusal: str = ""

    @classmethod
    def open(cls, worker: str, mounted: Path = MOUNTED) -> "Cgroups":
        """Find out whether groups can be made here, and clear what an earlier process of this worker left."""
        unified = (mounted / "cgroup.controllers").exists()
        roots = [mounted] if unified else [mounted / name for name in _FIRST_VERSION]
        places = tuple(root / FOLDER / worker for root in roots)
        try:
            for root, place in zip(roots, places, strict=True):
                _prepare(root, place, unified=unified)
        except OSError as refused:
            reason = "control groups need root" if os.geteuid() else f"{refused.strerror}: {refused.filename}"
            return cls((), unified, f"steps have no limits of memory, processes and processors here ({reason})")
        return cls(places, unified)

    def make(self, name: str, limits: Limits) -> tuple[Path, ...]:
        """A group for one step, in every hierarchy."""
        made: list[Path] = []
        for place in self.places:
            group = place / name
            group.mkdir(parents=True)
            made.append(group)
            wanted = _unified(limits) if self.unified else _first_version(place.parents[1].name, limits)
            for file, value in wanted:
                _write(group / file, value)
        return tuple(made)

    @staticmethod
    def remove(groups: Sequence[Path]) -> None:
        """Remove what `make` made; its processes have ended."""
        for group in groups:
            with contextlib.suppress(OSError):
                group.rmdir()


def _prepare(root: Path, place: Path, *, unified: bool) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for leftover in place.iterdir():
        if leftover.is_dir():
            with contextlib.suppress(OSError):
                leftover.rmdir()
    if unified:
        for parent in (root, place.parent, place):
            (parent / "cgroup.subtree_control").write_text("+memory +pids +cpu")
    elif not (place / "cgroup.procs").exists():
        raise FileNotFoundError(2, "no such control group", str(place))


def _unified(limits: Limits) -> list[tuple[str, str]]:
    wanted = [("pids.max", str(limits.processes))]
    if limits.memory:
        wanted += [("memory.max", str(limits.memory)), ("memory.swap.max", "0"), ("memory.oom.group", "1")]
    if limits.processors:
        wanted.append(("cpu.max", f"{int(limits.processors * _PERIOD)} {_PERIOD}"))
    return wanted


def _first_version(hierarchy: str, limits: Limits) -> list[tuple[str, str]]:
    if hierarchy == "pids":
        return [("pids.max", str(limits.processes))]
    if hierarchy == "memory" and limits.memory:
        return [
            ("memory.limit_in_bytes", str(limits.memory)),
            ("memory.memsw.limit_in_bytes", str(limits.memory)),
        ]
    if hierarchy == "cpu" and limits.processors:
        return [("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", str(int(limits.processors * _PERIOD)))]
    return []


def _write(file: Path, value: str) -> None:
    """A kernel without accounting of swap has no file for it, and no swap to limit."""
    if "swap" in file.name or "memsw" in file.name:
        with contextlib.suppress(OSError):
            file.write_text(value)
        return
    file.write_text(value)
