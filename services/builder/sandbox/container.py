"""The OCI runtime configuration of a step: few capabilities, no new privileges, a system call filter."""

import os
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
    *("finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "init_module", "io_uring_setup"),
    *("io_uring_enter", "io_uring_register", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl"),
    *("lookup_dcookie", "mount", "mount_setattr", "move_mount", "move_pages", "name_to_handle_at", "nfsservctl"),
    *("open_by_handle_at", "open_tree", "perf_event_open", "pivot_root", "process_vm_readv", "process_vm_writev"),
    *("ptrace", "query_module", "quotactl", "reboot", "request_key", "setns", "settimeofday", "stime", "swapoff"),
    *(
        "swapon",
        "_sysctl",
        "sysfs",
        "umount",
        "umount2",
        "unshare",
        "uselib",
        "userfaultfd",
        "ustat",
        "vm86",
        "vm86old",
    ),
]

_NEW_USER_NAMESPACE = 0x10000000
_ENOSYS = 38

_MASKED = ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi"]
_READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def configuration(spec: StepSpec, root: str) -> dict[str, Any]:
    """The `config.json` of a bundle whose root file system is mounted at `root`; OCI runtime specification 1.0.2."""
    return {
        "ociVersion": "1.0.2",
        "hostname": "build",
        "root": {"path": root, "readonly": False},
        "process": _process(spec),
        "mounts": [*_system_mounts(spec), *map(_bind, spec.mounts)],
        "linux": {
            "namespaces": _namespaces(spec),
            "resources": _resources(spec),
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
                "syscalls": _refused_calls(),
            },
            "maskedPaths": _MASKED,
            "readonlyPaths": _READ_ONLY,
        },
    }


def _refused_calls() -> list[dict[str, Any]]:
    """No user namespace of its own: in one a step would have every capability again.

    The filter cannot look into clone3's argument; told that there is none, programs fall back to clone.
    """
    flagged = {"index": 0, "value": _NEW_USER_NAMESPACE, "valueTwo": _NEW_USER_NAMESPACE, "op": "SCMP_CMP_MASKED_EQ"}
    return [
        {"names": FORBIDDEN_CALLS, "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": [flagged]},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
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
    }


def _namespaces(spec: StepSpec) -> list[dict[str, str]]:
    kinds = ["pid", "mount", "ipc", "uts", *([] if spec.network else ["network"])]
    return [{"type": kind} for kind in kinds]


def _resources(spec: StepSpec) -> dict[str, Any]:
    if not _may_limit():
        return {}
    limits: dict[str, Any] = {"pids": {"limit": spec.processes}}
    if spec.memory:
        limits["memory"] = {"limit": spec.memory}
    return limits


def _may_limit() -> bool:
    """Control groups are root's; a worker without root runs its steps without these limits."""
    return os.geteuid() == 0


def _system_mounts(spec: StepSpec) -> list[dict[str, Any]]:
    mounts = [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108
    ]
    if spec.network:
        mounts += [_file(path) for path in ("/etc/resolv.conf", "/etc/hosts") if os.path.exists(path)]  # noqa: PTH110
    return mounts


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _file(path: str) -> dict[str, Any]:
    return _mount(path, "bind", path, "bind", "ro", "nosuid", "nodev", "noexec")


def _bind(mount: Mount) -> dict[str, Any]:
    access = "ro" if mount.read_only else "rw"
    return _mount(mount.destination, "bind", str(mount.source), "rbind", access, "nosuid", "nodev")
