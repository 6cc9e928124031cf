"""CPU time of a server: user and system seconds of the processes that listen on its ports, and of their children."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"


def spent(processes: Iterable[int]) -> float:
    """User and system seconds that these processes have taken so far."""
    return sum(_spent(process) for process in processes)


def resident(process: int) -> int:
    """Bytes of a process that lie in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def listeners(port: int) -> list[int]:
    """The processes that listen on a loopback port, with their descendants."""
    inodes = _inodes(port)
    found = [process for process in _processes() if inodes & _sockets(process)]
    if not found:
        raise LookupError(f"nobody listens on port {port}")
    return sorted({child for process in found for child in (process, *_descendants(process))})


def _spent(process: int) -> float:
    """The scheduler counts in nanoseconds, but only for threads that still run; the rest is counted in ticks."""
    try:
        tasks = [Path(path, "schedstat").read_text() for path in Path(f"/proc/{process}/task").iterdir()]
        return sum(int(task.split()[0]) for task in tasks) / 1e9
    except OSError:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK


def _inodes(port: int) -> set[str]:
    found: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]  # noqa: PTH208 - not paths


def _sockets(process: int) -> set[str]:
    found: set[str] = set()
    folder = f"/proc/{process}/fd"
    try:
        for entry in os.listdir(folder):  # noqa: PTH208 - not paths
            target = os.readlink(f"{folder}/{entry}")  # noqa: PTH115
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        return found
    return found


def _descendants(process: int) -> list[int]:
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [found for child in map(int, children) for found in (child, *_descendants(child))]
