"""Steps that try to get out: at files, processes, networks, devices and memory of the machine they run on."""

import asyncio
import io
import os
import socket
import tarfile
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.builder.reach import own_addresses
from services.builder.sandbox.users import DEFAULT
from tests.support.images import image_of, layer_of
from tests.support.parts import bearer
from tests.support.workbench import ADA, BUSYBOX_IMAGE, NEEDED, Workbench, busybox, opened, python

pytestmark = NEEDED

MIB = 1024 * 1024
PYTHON_IMAGE: tuple[str, str] = ("demo/tools/python", "1")

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="the range of ids and control groups need root")

# Every attempt prints `name: what came of it`.
PRELUDE = """
import ctypes, errno, fcntl, os, socket, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, attempt):
    try:
        said = attempt()
    except OSError as error:
        said = errno.errorcode.get(error.errno, str(error))
    print(f"{name}: {said}", flush=True)
def call(function, *arguments):
    if libc[function](*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
    return "DONE"
def connect(address, port, device=None, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as made:
        made.settimeout(2)
        if device:
            made.setsockopt(socket.SOL_SOCKET, 25, device)
        made.connect((address, port))
        made.send(b"here")
        return "CONNECTED"
def read(path):
    with open(path, "rb") as file:
        return file.read(100)
def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return "WRITTEN"
"""


@dataclass
class Trap:
    """Listens on the machine's own addresses, and notes who came."""

    port: int
    sockets: list[socket.socket] = field(default_factory=list[socket.socket])

    def visited(self) -> bool:
        """Whether anybody came by."""
        for trap in self.sockets:
            try:
                trap.accept() if trap.type == socket.SOCK_STREAM else trap.recv(100)
            except BlockingIOError:
                continue
            return True
        return False


@pytest.fixture
def trap() -> Iterator[Trap]:
    """A server on all addresses, a datagram socket, and an abstract one."""
    made = Trap(0)
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = socket.socket(socket.AF_INET, kind)
        one.bind(("0.0.0.0", made.port))  # noqa: S104 - that is what it is for
        made.port = one.getsockname()[1]
        made.sockets.append(one)
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0entrepot-trap-{made.port}")
    made.sockets.append(abstract)
    for one in made.sockets:
        one.settimeout(0)
        if one.type == socket.SOCK_STREAM:
            one.listen()
    yield made
    for one in made.sockets:
        one.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Workbench, None]:
    images = {BUSYBOX_IMAGE: busybox(), PYTHON_IMAGE: await asyncio.to_thread(python)}
    limits = {"memory": str(96 * MIB), "processes": "40"} if os.geteuid() == 0 else {}
    async with opened(tmp_path / "work", images, **limits) as made:
        yield made


async def attempts(bench: Workbench, program: str, **more: Any) -> dict[str, str]:
    """What came of each attempt of a Python program in a step."""
    name = f"{bench.host}/{PYTHON_IMAGE[0]}:1"
    made = await bench.run(steps=[{"name": name, "args": [PRELUDE + program]}], **more)
    said = await bench.log(made["id"])
    assert made["status"] == "SUCCESS", said
    lines = [line.removeprefix("Step #0: ") for line in said.splitlines() if line.startswith("Step #0: ")]
    return {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}


@pytest.mark.timeout(120)
async def test_a_step_reaches_no_server_of_the_machine(bench: Workbench, trap: Trap) -> None:
    own = own_addresses()
    program = [f"port = {trap.port}", "dgram = socket.SOCK_DGRAM"]
    for number, address in enumerate(["127.0.0.1", "10.0.2.2", "255.255.255.255", "0.0.0.0", "127.9.9.9", *own]):  # noqa: S104
        program += [
            f"tried('plain {number}', lambda: connect('{address}', port))",
            f"tried('device {number}', lambda: connect('{address}', port, b'tap0'))",
            f"tried('dgram {number}', lambda: connect('{address}', port, None, dgram))",
            f"tried('dgram device {number}', lambda: connect('{address}', port, b'tap0', dgram))",
        ]
    program += [
        "def abstract():",
        "    with socket.socket(socket.AF_UNIX) as made:",
        "        made.connect(f'\\0entrepot-trap-{port}')",
        "        return 'CONNECTED'",
        "tried('abstract', abstract)",
        "tried('packet', lambda: socket.socket(17, socket.SOCK_RAW))",
        "tried('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255))",
        "tried('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))",
        "tried('kernel crypto', lambda: socket.socket(38, 5))",
        "down = struct.pack('16sh14x', b'lo', 0)",
        "tried('interface', lambda: fcntl.ioctl(socket.socket(), 0x8914, down))",
    ]
    found = await attempts(bench, "\n".join(program))
    assert not trap.visited()
    streams = {name: what for name, what in found.items() if name.startswith(("plain", "device", "abstract"))}
    assert streams
    assert "CONNECTED" not in streams.values(), found
    assert found["packet"] == found["vsock"] == found["kernel crypto"] == "EAFNOSUPPORT"
    assert found["raw"] == found["interface"] == "EPERM"


@pytest.mark.timeout(120)
async def test_a_step_reaches_no_private_address(bench: Workbench) -> None:
    addresses = ("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "198.18.0.1", "224.0.0.5")
    program = [f"tried('{address}', lambda: connect('{address}', 80))" for address in addresses]
    program += [f"tried('{address} device', lambda: connect('{address}', 80, b'tap0'))" for address in addresses]
    program += [
        "def six():",
        "    with socket.socket(socket.AF_INET6) as made:",
        "        made.settimeout(2)",
        "        made.connect(('fd00::2', 80))",
        "        return 'CONNECTED'",
        "tried('six', six)",
    ]
    found = await attempts(bench, "\n".join(program))
    assert {found[address] for address in addresses} <= {"EHOSTUNREACH", "ENETUNREACH"}, found
    assert "CONNECTED" not in found.values(), found
    assert found["six"] in {"ENETUNREACH", "EADDRNOTAVAIL", "EHOSTUNREACH", "timed out"}


@pytest.mark.timeout(120)
async def test_a_step_has_no_right_of_the_kernels(bench: Workbench) -> None:
    program = """
tried("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, 0))
tried("bind", lambda: call("mount", b"/proc", b"/workspace", b"", 4096, 0))
tried("umount", lambda: call("umount2", b"/proc/sys", 2))
tried("device", lambda: os.mknod("/kmsg", 0o20666, os.makedev(1, 11)))
tried("disk", lambda: os.mknod("/disk", 0o60666, os.makedev(254, 0)))
tried("user namespace", lambda: call("unshare", 0x10000000))
tried("mount namespace", lambda: call("unshare", 0x00020000))
tried("clone", lambda: call("syscall", 56, 0x10000000 | 17, 0, 0, 0, 0))
tried("setns", lambda: call("setns", os.open("/proc/1/ns/user", os.O_RDONLY), 0))
tried("ptrace", lambda: call("ptrace", 16, 1, 0, 0))
tried("keys", lambda: call("syscall", 250, 0, -3, 1))
tried("handle", lambda: call("open_by_handle_at", -100, b"x" * 64, 0))
tried("bpf", lambda: call("syscall", 321, 0, b"x" * 64, 64))
tried("perf", lambda: call("syscall", 298, b"x" * 120, 0, -1, -1, 0))
tried("chroot out", lambda: os.chroot("/proc/1/root/.."))
tried("core pattern", lambda: write("/proc/sys/kernel/core_pattern", "|/bin/sh"))
tried("sysrq", lambda: write("/proc/sysrq-trigger", "h"))
tried("kcore", lambda: read("/proc/kcore"))
tried("keys file", lambda: read("/proc/keys"))
tried("mem", lambda: read("/dev/mem"))
tried("oom", lambda: write("/proc/self/oom_score_adj", "-1000"))
tried("nice", lambda: os.setpriority(os.PRIO_PROCESS, 0, -10))
tried("hostname", lambda: socket.sethostname("other"))
tried("reboot", lambda: call("reboot", 0x01234567))
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    if name in ("NoNewPrivs", "Seccomp", "CapEff", "CapBnd"):
        print(f"{name}: {value.strip()}")
print("map:", " ".join(open("/proc/self/uid_map").read().split()))
"""
    found = await attempts(bench, program)
    for name in ("mount", "bind", "umount", "device", "disk", "user namespace", "mount namespace", "clone", "setns"):
        assert found[name] == "EPERM", (name, found)
    for name in ("ptrace", "keys", "handle", "bpf", "perf", "hostname", "reboot"):
        assert found[name] == "EPERM", (name, found)
    assert found["core pattern"] == "EROFS"
    assert found["sysrq"] in {"EROFS", "ENOENT"}
    assert {found["kcore"], found["keys file"]} <= {"b''", "ENOENT"}
    assert found["mem"] == "ENOENT"
    assert found["oom"] in {"EACCES", "EPERM"}
    assert found["nice"] in {"EACCES", "EPERM"}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert int(found["CapBnd"], 16) & (1 << 21 | 1 << 12 | 1 << 13 | 1 << 27 | 1 << 19) == 0, "admin, network, devices"


@pytest.mark.timeout(120)
async def test_a_step_finds_no_file_process_or_secret_of_the_machine(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the machine")
    secret.chmod(0o644)
    monkeypatch.setenv("ENTREPOT_SECRET_OF_THE_WORKER", "of the worker")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, target in (("link", str(secret)), ("up", "../../../../../../../../.."), ("proc", "/proc/1/root")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    answer = await bench.client.post("/v1/projects/demo/sources", data=packed.getvalue(), headers=bearer(ADA))
    program = f"""
import glob
secret = {str(secret)!r}
tried("plain", lambda: read(secret))
tried("link", lambda: read("/workspace/link"))
tried("up", lambda: read("/workspace/up" + secret))
tried("proc", lambda: read("/workspace/proc" + secret))
tried("descriptors", lambda: [os.readlink(one) for one in glob.glob("/proc/self/fd/*") if os.path.exists(one)])
tried("descriptor", lambda: [number for number in range(3, 100) if os.path.exists(f"/proc/self/fd/{{number}}")])
tried("processes", lambda: sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
tried("environment", lambda: sorted(os.environ))
tried("groups", lambda: set(line.split(":", 2)[2] for line in open("/proc/self/cgroup").read().splitlines()))
tried("root", lambda: sorted(os.listdir("/")))
tried("kill", lambda: os.kill(-1, 0))
"""
    found = await attempts(bench, program, source=await answer.json())
    assert {found[name] for name in ("plain", "link", "up", "proc")} <= {"ENOENT", "EACCES", "EPERM"}, found
    assert found["descriptor"] == "[]"
    assert found["processes"] == "[1]"
    assert "SECRET" not in found["environment"]
    assert found["groups"] == "{'/'}"
    assert "work" in found["root"]
    assert not {"home", "sys", "srv", "old", "var"} & set(found["root"].split("'"))


@ROOT
@pytest.mark.timeout(120)
async def test_what_a_step_makes_belongs_to_nobody_on_the_machine(bench: Workbench) -> None:
    first = {"name": bench.image, "args": ["touch /workspace/mine; chmod 4755 /workspace/mine; sleep 3"]}
    begun = await bench.submit(steps=[first])
    owners: set[int] = set()
    until = time.monotonic() + 60
    while not owners:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
        owners = _owners(bench.folder / "builds")
    assert owners == {DEFAULT.first}
    outside = [status for status in _processes("sleep 3") if "Uid:\t0" in status]
    assert not outside, "a step's process is root of the machine"
    assert (await bench.ended(begun["id"]))["status"] == "SUCCESS"
    assert not _owners(bench.folder / "builds")


def _owners(builds: Path) -> set[int]:
    """Whose file it is that the step makes, once it is whole."""
    found = [path.stat() for path in builds.glob("*/workspace/mine")]
    return {owner for status in found if status.st_mode & 0o4000 for owner in (status.st_uid, status.st_gid)}


def _processes(command: str) -> list[str]:
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip() == command:
                found.append((process / "status").read_text())
        except OSError:
            continue
    return found


@ROOT
@pytest.mark.timeout(120)
async def test_a_step_that_takes_too_much_memory_is_ended(bench: Workbench) -> None:
    name = f"{bench.host}/{PYTHON_IMAGE[0]}:1"
    program = "held = [b'x' * 1048576 for _ in range(400)]; print('too', 'much')"
    made = await bench.run(steps=[{"name": name, "args": [program]}])
    assert made["status"] == "FAILURE"
    assert made["steps"][0]["exitCode"] == 137
    assert "too much" not in await bench.log(made["id"])


@ROOT
@pytest.mark.timeout(120)
async def test_a_step_that_makes_processes_without_end_is_stopped_at_its_limit(bench: Workbench) -> None:
    program = """
def bomb():
    made = 0
    while made < 500:
        if os.fork() == 0:
            import time
            time.sleep(20)
            os._exit(0)
        made += 1
        print("made:", made, flush=True)
    return "UNLIMITED"
tried("bomb", bomb)
"""
    found = await attempts(bench, program)
    assert found["bomb"] == "EAGAIN"
    assert int(found["made"]) < 40


@pytest.mark.timeout(120)
async def test_an_image_leads_nothing_out_of_its_folder(bench: Workbench, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    victim.chmod(0o777)
    (victim / "kept").write_text("kept")
    names = ("workspace", "etc/resolv.conf", "builder", "proc", "dev/shm")
    first = layer_of({}, {"evil": str(victim), "up": "../../../../../..", **{name: str(victim) for name in names}})
    files = {"evil/.wh.kept": b"", "evil/owned": b"1", f"up{victim}/owned": b"1", f"../../..{victim}/owned": b"1"}
    bench.registry.images["demo/tools/evil", "1"] = image_of([first, layer_of(files)], {"Entrypoint": ["/bin/none"]})
    made = await bench.run(steps=[{"name": f"{bench.host}/demo/tools/evil:1"}])
    assert made["status"] == "FAILURE"
    assert [path.name for path in victim.iterdir()] == ["kept"]


@pytest.mark.timeout(120)
async def test_without_a_network_there_is_the_loopback_alone(tmp_path: Path, trap: Trap) -> None:
    images = {PYTHON_IMAGE: await asyncio.to_thread(python)}
    async with opened(tmp_path / "work", images, network="none") as bench:
        program = f"""
tried("out", lambda: connect("192.0.2.1", 80))
tried("host", lambda: connect("127.0.0.1", {trap.port}))
tried("interfaces", lambda: [name for _, name in socket.if_nameindex()])
def served():
    with socket.create_server(("127.0.0.1", 80)) as server:
        return connect("127.0.0.1", 80)
tried("own", served)
"""
        found = await attempts(bench, program)
    assert found["out"] == "ENETUNREACH"
    assert found["host"] == "ECONNREFUSED"
    assert found["interfaces"] == "['lo']"
    assert found["own"] == "CONNECTED"
    assert not trap.visited()


@pytest.fixture
def programs_without_slirp() -> Iterator[Path]:
    """A folder that everybody may look into, with all programs but the one that makes networks."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        for place in ("/usr/bin", "/usr/sbin"):
            for program in Path(place).iterdir():
                if program.name != "slirp4netns" and not (folder / program.name).exists():
                    (folder / program.name).symlink_to(program)
        yield folder


@pytest.mark.timeout(120)
async def test_where_nothing_makes_a_network_the_build_is_told(
    tmp_path: Path, programs_without_slirp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(programs_without_slirp))
    async with opened(tmp_path / "work", {BUSYBOX_IMAGE: busybox()}) as bench:
        made = await bench.run(steps=[{"name": bench.image, "args": ["cat /proc/net/route; echo ran"]}])
        said = await bench.log(made["id"])
    assert made["status"] == "SUCCESS", said
    assert "slirp4netns is not installed" in said
    assert "tap0" not in said
