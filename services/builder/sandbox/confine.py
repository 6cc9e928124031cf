"""Confines a program of the worker's own, a runtime or buildah, before it touches anything that came from outside.

It gets a root file system of its own with this machine's programs, read-only, and the few folders it works on; then
the build's user namespace, a network, and mount, process, IPC and host name namespaces of its own. So whatever breaks
out of a container finds a user that is nobody and a file system with nothing in it. All of it vanishes with the
process, and the process with the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.builder.sandbox.users import Users

PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32")

# Positional parameters only: no name of a file becomes part of the script. Flags that are mere depth (read-only,
# nosuid) may fail without root, where the file system around has flags that may not be taken away.
_VIEW = """
set -e
view=$1 etc=$2
shift 2
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done
shift
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$view"
mkdir "$view/dev" "$view/etc" "$view/tmp" "$view/old" "$view/run" "$view/var" "$view/var/tmp" "$view/root"
chmod 1777 "$view/tmp" "$view/var/tmp" "$view/run" "$view/root"
seen() { mkdir -p "$view$1"; mount --rbind "$1" "$view$1"; }
only() { mkdir -p "$view$1"; mount --bind "$1" "$view$1" 2>/dev/null || mount --rbind "$1" "$view$1"; }
for each in /usr /bin /sbin /lib /lib64 /lib32 /libx32; do
  if [ -L "$each" ]; then ln -s "$(readlink "$each")" "$view$each"
  elif [ -d "$each" ]; then seen "$each"; mount -o remount,bind,ro,nosuid,nodev "$view$each" 2>/dev/null || :
  fi
done
for each in /etc/ssl /etc/pki /etc/ca-certificates /etc/alternatives; do
  if [ -d "$each" ]; then seen "$each"; fi
done
if [ -e /etc/ld.so.cache ]; then cp /etc/ld.so.cache "$view/etc/"; fi
if [ -n "$etc" ]; then cp -R "$etc/." "$view/etc/"; fi
seen /proc
seen /sys/fs/cgroup
if [ -d "$view/sys/fs/cgroup/unified" ]; then
  umount "$view/sys/fs/cgroup/unified" 2>/dev/null || mount -t tmpfs tmpfs "$view/sys/fs/cgroup/unified"
fi
for each in null zero full random urandom tty; do
  : >"$view/dev/$each"
  mount --bind "/dev/$each" "$view/dev/$each"
done
while [ "$1" != -- ]; do
  only "$1"
  mount -o remount,bind,nosuid,nodev "$view$1" 2>/dev/null || :
  shift
done
shift
cd "$view"
pivot_root . old
umount -l /old
rmdir /old
exec "$@"
"""


@dataclass(frozen=True)
class Confinement:
    """What a program is allowed."""

    users: Users
    view: Path
    """An empty directory on which its root file system is mounted."""
    folders: tuple[Path, ...]
    """Folders that it sees, at the paths they have."""
    network: str = ""
    """A network namespace; empty: one of its own with nothing in it."""
    etc: Path | None = None
    """A folder whose files are copied into its /etc."""
    groups: tuple[Path, ...] = ()
    """Control groups that it joins."""

    def command(self, program: Sequence[str]) -> list[str]:
        """The words that run `program` so."""
        if self.users.privileged:
            first, second = (["nsenter", f"--net={self.network}"] if self.network else []), self.users.enter()
        else:
            first, second = self.users.enter(self.network), []
        etc = str(self.etc) if self.etc else ""
        return [
            *("setpriv", "--pdeathsig", "KILL", *first),
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", _VIEW, "sh", str(self.view), etc),
            *(*map(str, self.groups), "--", *map(str, self.folders), "--"),
            *(*second, "unshare", *([] if self.network else ["--net"]), "--mount", "--pid", "--ipc", "--uts"),
            *("--fork", "--kill-child", "--mount-proc", "--propagation", "private", *program),
        ]
