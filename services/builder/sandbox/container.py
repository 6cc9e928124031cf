"""The OCI runtime configuration of a step: its own user namespace, few capabilities, a system call filter."""

from collections.abc import Sequence
from typing import Any

from services.builder.sandbox.face import Mount, StepSpec

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
        *("NET_BIND_SERVICE", "SYS_CHROOT", "AUDIT_WRITE", "SETFCAP"),
    )
]

# What a build never needs and what escapes are made of. Everything else is allowed.
FORBIDDEN_CALLS = [
    *("acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module"),
    *("fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms"),
    *("init_module", "io_uring_setup", "io_uring_enter", "io_uring_register", "ioperm", "iopl", "kcmp"),
    *("kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount"),
    *("move_pages", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open"),
    *("pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "query_module"),
    *("quotactl", "quotactl_fd", "reboot", "request_key", "setns", "settimeofday", "stime", "swapoff"),
    *("swapon", "_sysctl", "sysfs", "syslog", "umount", "umount2", "unshare", "uselib", "userfaultfd", "ustat"),
    *("vm86", "vm86old"),
]

_NEW_USER_NAMESPACE = 0x10000000
_ENOSYS = 38
_EAFNOSUPPORT = 97
_NETLINK = 16
"""The last of the socket families that programs need; those above reach past the network namespace (vsock), or are
seldom used parts of the kernel."""

_MASKED = [
    f"/proc/{name}"
    for name in (
        *("acpi", "asound", "interrupts", "kcore", "kpagecount", "kpageflags", "keys", "latency_stats"),
        *("sched_debug", "scsi", "timer_list", "timer_stats"),
    )
]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def configuration(spec: StepSpec, root: str, mounts: Sequence[Mount], ids: int) -> dict[str, Any]:
    """The `config.json` of a bundle whose root file system is mounted at `root`; OCI runtime specification 1.0.2.

    The container's user namespace maps the first `ids` ids of the one that the runtime runs in to themselves: what
    differs is that its capabilities mean nothing to the mounts and networks around.
    """
    same = [{"containerID": 0, "hostID": 0, "size": ids}]
    return {
        "ociVersion": "1.0.2",
        "hostname": "build",
        "root": {"path": root, "readonly": False},
        "process": _process(spec),
        "mounts": [*_system_mounts(), *map(_bind, mounts)],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("user", "pid", "mount", "ipc", "uts", "cgroup")],
            "uidMappings": same,
            "gidMappings": same,
            "seccomp": seccomp(),
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }


def seccomp() -> dict[str, Any]:
    """The filter of system calls, also for what buildah runs."""
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": _refused_calls(),
    }


def _refused_calls() -> list[dict[str, Any]]:
    """No user namespace of its own: in one a step would have every capability again.

    The filter cannot look into the arguments of clone3 and socketcall; told that there is none, programs fall back
    to the calls that it can look into.
    """
    flagged = {"index": 0, "value": _NEW_USER_NAMESPACE, "valueTwo": _NEW_USER_NAMESPACE, "op": "SCMP_CMP_MASKED_EQ"}
    beyond = {"index": 0, "value": _NETLINK, "op": "SCMP_CMP_GT"}
    return [
        {"names": FORBIDDEN_CALLS, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [flagged]},
        {"names": ["clone3", "socketcall"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
        {"names": ["socket", "socketpair"], "action": "SCMP_ACT_ERRNO", "errnoRet": _EAFNOSUPPORT, "args": [beyond]},
    ]


def _process(spec: StepSpec) -> dict[str, Any]:
    return {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": list(spec.argv),
        "env": list(spec.environment),
        "cwd": spec.directory,
        "noNewPrivileges": True,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    }


def _system_mounts() -> list[dict[str, Any]]:
    return [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108
    ]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _bind(mount: Mount) -> dict[str, Any]:
    access = "ro" if mount.read_only else "rw"
    return _mount(mount.destination, "bind", str(mount.source), "rbind", access, "nosuid", "nodev")
