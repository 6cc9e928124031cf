"""The user namespace that everything of a build runs in: its root is nobody in particular on this machine.

As root, a range of ids that no account has is mapped into it; without root, the worker's own id alone. It is made once
and held by a descriptor, so that nothing is left of it when the worker ends, however that happens.
"""

import asyncio
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from services.builder.errors import NoRuntime

SUBORDINATE = Path("/etc/subuid")
ACCOUNT = "entrepot"
"""Whose lines in /etc/subuid and /etc/subgid are meant."""
_SECONDS = 10


@dataclass(frozen=True)
class Range:
    """Ids of this machine."""

    first: int
    count: int


# Above what distributions give to accounts and what systemd gives to its containers.
DEFAULT = Range(1_879_048_192, 65_536)


@dataclass(frozen=True)
class Users:
    """A user namespace that is held open."""

    descriptor: int
    owner: int
    """The id on this machine of root in there."""
    count: int
    privileged: bool
    """Whether the worker is root of this machine."""

    @classmethod
    async def open(cls, wanted: str = "") -> "Users":
        """Make one. Raises NoRuntime, in words, where the kernel or the container around this forbids it."""
        privileged = os.geteuid() == 0
        ids = range_of(wanted) if privileged else Range(os.geteuid(), 1)
        group = ids.first if privileged else os.getegid()
        try:
            descriptor = await _made(ids, Range(group, ids.count), privileged=privileged)
        except OSError as refused:
            raise NoRuntime(f"no user namespace can be made here ({refused}): {_ADVICE}") from None
        return cls(descriptor, ids.first, ids.count, privileged)

    def enter(self, network: str = "") -> list[str]:
        """The words before a command that make it run as root in there, and end with its parent.

        In a network of this namespace, where one is named: from inside, descriptors of the worker are out of reach.
        """
        net = [f"--net={network}"] if network else []
        return [*self._entering(), *net, "setpriv", *self._groups(), "--pdeathsig", "KILL"]

    def give(self, *paths: Path) -> None:
        """Make files or folders of the worker's belong to root in there."""
        if self.privileged:
            for path in paths:
                os.chown(path, self.owner, self.owner, follow_symlinks=False)

    def remove(self, folder: Path) -> None:
        """Remove a folder with whatever was made in it; without root, as root in there, whom no mode holds up."""
        if not self.privileged and folder.exists():
            command = [*self.enter(), "rm", "-rf", "--one-file-system", "--", str(folder)]
            subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own words
        shutil.rmtree(folder, ignore_errors=True)

    @property
    def path(self) -> str:
        """Where other processes of the same user open it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    def _entering(self) -> list[str]:
        who = ["--setuid", "0", "--setgid", "0"] if self.privileged else ["--preserve-credentials"]
        return ["nsenter", f"--user={self.path}", *who]

    def _groups(self) -> list[str]:
        return ["--clear-groups"] if self.privileged else []


_ADVICE = (
    "the kernel must allow them (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns), and so must a container around the builder"
)


def range_of(wanted: str, subordinate: Path = SUBORDINATE) -> Range:
    """FIRST:COUNT as the setting says, else the first line of `entrepot` in /etc/subuid, else the default."""
    if wanted:
        return _range(wanted, "ENTREPOT_BUILDER_IDS")
    try:
        lines = subordinate.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, rest = line.partition(":")
        if name == ACCOUNT:
            return _range(rest, str(subordinate))
    return DEFAULT


def _range(text: str, place: str) -> Range:
    first, _, count = text.partition(":")
    if not (first.isascii() and first.isdigit() and count.isascii() and count.isdigit()):
        raise NoRuntime(f"{place} wants FIRST:COUNT, got {text[:100]!r}")
    found = Range(int(first), int(count))
    if found.first < 65_536 or found.count < 65_536 or found.first + found.count > 2**32 - 2:
        raise NoRuntime(f"{place}: {text[:100]} is no range of 65536 or more ids, from 65536 on")
    return found


async def _made(users: Range, groups: Range, *, privileged: bool) -> int:
    """Start a process in a new namespace, map its ids, open the namespace, let the process end."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--user", "sh", "-c", "echo made; read -r go"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    assert process.stderr is not None  # noqa: S101
    try:
        async with asyncio.timeout(_SECONDS):
            if not await process.stdout.readline():
                said = (await process.stderr.read()).decode(errors="replace").strip()
                raise OSError(said or "unshare said nothing")
            home = Path(f"/proc/{process.pid}")
            await asyncio.to_thread(_map, home, users, groups, privileged=privileged)
            return os.open(home / "ns" / "user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _map(home: Path, users: Range, groups: Range, *, privileged: bool) -> None:
    if not privileged:
        (home / "setgroups").write_text("deny")
    (home / "uid_map").write_text(f"0 {users.first} {users.count}\n")
    (home / "gid_map").write_text(f"0 {groups.first} {groups.count}\n")
