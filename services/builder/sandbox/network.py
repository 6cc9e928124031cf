"""A network for each build: its own loopback, and a way out through slirp4netns that leads to no private address.

It holds no address of this machine's networks and hears nothing from outside. What it must not reach is closed by
routes, which a step cannot change: it has no capability in this network. Where slirp4netns is missing or does not
run, builds have the loopback alone, and are told so.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.builder.errors import NoRuntime
from services.builder.reach import Reach, own_addresses
from services.builder.sandbox.children import last_words
from services.builder.sandbox.users import Users

_GATEWAY, _RESOLVER = "10.0.2.2", "10.0.2.3"
"""What slirp4netns answers as; nothing is behind the first, since the host's loopback is disabled."""
_SECONDS = 15
_AT_ONCE = 64
_PIECE = 64 * 1024

# Made, and told so; then lines for `ip` until the end of its input. Low ports are free in here, since a step has no
# capability to bind them.
_MAKE = """
ip link set lo up || exit 1
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
echo made
exec ip -batch -
"""

# Sends listening sockets of another network through the descriptor that it is told.
_LISTEN = """
import socket, sys
made = [socket.create_server((address, int(port))) for address, port in zip(sys.argv[2::2], sys.argv[3::2])]
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"."], [one.fileno() for one in made])
"""


@dataclass(frozen=True)
class Door:
    """A server outside that is reached from inside of a network under its own name and port."""

    host: str
    port: int


@dataclass
class Network:
    """One build's network, until it is closed."""

    descriptor: int
    outward: bool
    """Whether there is a way out."""
    names: dict[str, str] = field(default_factory=dict[str, str])
    """Hosts that are found at an address of this network's own."""
    slirp: asyncio.subprocess.Process | None = None
    lifeline: int = -1
    """What slirp4netns ends with."""
    servers: list[asyncio.Server] = field(default_factory=list[asyncio.Server])
    passages: "set[asyncio.Task[None]]" = field(default_factory=set["asyncio.Task[None]"])
    """Connections that are led out at this moment."""

    @property
    def namespace(self) -> str:
        """Where other processes of the same user open it."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def write_files(self, folder: Path) -> tuple[Path, Path]:
        """Write `hosts` and `resolv.conf` for it into a folder."""
        hosts, resolver = folder / "hosts", folder / "resolv.conf"
        lines = ["127.0.0.1 localhost build", "::1 localhost", *(f"{at} {name}" for name, at in self.names.items())]
        hosts.write_text("".join(f"{line}\n" for line in lines))
        resolver.write_text(f"nameserver {_RESOLVER}\n" if self.outward else "# This build has no network.\n")
        for file in (hosts, resolver):
            file.chmod(0o644)
        return hosts, resolver

    async def close(self) -> None:
        """End the way out and let go of the network."""
        for server in self.servers:
            server.close()
        for passage in (*self.passages,):
            passage.cancel()
        for descriptor in (self.lifeline, self.descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self.lifeline = self.descriptor = -1
        if self.slirp is not None:
            if self.slirp.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    self.slirp.kill()
            await asyncio.shield(self.slirp.wait())


@dataclass(frozen=True)
class Networks:
    """Makes networks of one kind."""

    users: Users
    reach: Reach
    slirp: str = ""
    """The program slirp4netns; empty: networks lead nowhere."""
    refusal: str = ""
    """Why they lead nowhere although they should; empty where they do, or where the setting says so."""

    @classmethod
    async def open(cls, users: Users, reach: Reach, *, outward: bool) -> "Networks":
        """Find out by trying whether networks can have a way out."""
        if not outward:
            return cls(users, reach)
        program = shutil.which("slirp4netns")
        if program is None:
            return cls(users, reach, refusal="builds have no network: slirp4netns is not installed")
        networks = cls(users, reach, program)
        try:
            await (await networks.make()).close()
        except NoRuntime as refused:
            return cls(users, reach, refusal=f"builds have no network: {refused}")
        return networks

    async def make(self, doors: Sequence[Door] = ()) -> Network:
        """A fresh network, from which the servers behind the doors are reached. Raises NoRuntime."""
        maker = await asyncio.create_subprocess_exec(
            *(*self.users.enter(), "unshare", "--net", "sh", "-c", _MAKE),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._furnished(maker, doors)
        except (OSError, TimeoutError) as broken:
            raise NoRuntime(f"no network can be made here: {str(broken) or 'no end in time'}") from None
        finally:
            if maker.returncode is None:
                maker.kill()
            await maker.wait()

    async def _furnished(self, maker: asyncio.subprocess.Process, doors: Sequence[Door]) -> Network:
        assert maker.stdout is not None  # noqa: S101 - it was asked for
        said = await maker.stdout.readline()
        if said != b"made\n":
            raise OSError((said + await maker.stdout.read()).decode(errors="replace").strip())
        descriptor = os.open(f"/proc/{maker.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        network = Network(descriptor, outward=bool(self.slirp))
        try:
            if self.slirp:
                await self._lead_out(network, maker.pid)
            addresses = _addresses(network, doors)
            lines = [f"address add {address}/32 dev lo" for address in addresses if not address.startswith("127.")]
            routes = await asyncio.to_thread(lambda: self.reach.routes(own_addresses(), _GATEWAY))
            await _configure(maker, [*lines, *(routes if self.slirp else [])])
            await self._serve(network, addresses, doors)
        except BaseException:
            await network.close()
            raise
        return network

    async def _lead_out(self, network: Network, inside: int) -> None:
        """Start slirp4netns for the network of a process. It ends when its lifeline, or this worker, does."""
        ready, tell = os.pipe()
        held, network.lifeline = os.pipe()
        # Its own sandbox wants to be root: of this machine, or of the namespace.
        within = [] if self.users.privileged else self.users.enter()
        try:
            slirp = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", *within, self.slirp, "--configure", "--mtu=65520"),
                *("--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"),
                *(f"--ready-fd={tell}", f"--exit-fd={held}"),
                *("--netns-type=path", f"/proc/{inside}/ns/net", "tap0"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(tell, held),
                start_new_session=True,
            )
        finally:
            os.close(tell)
            os.close(held)
        network.slirp = slirp
        with os.fdopen(ready, "rb") as waiting:
            if await asyncio.to_thread(waiting.read, 1) != b"1":
                said = await last_words(slirp)
                raise OSError(f"slirp4netns: {said.decode(errors='replace').strip()[-300:]}")

    async def _serve(self, network: Network, addresses: Sequence[str], doors: Sequence[Door]) -> None:
        """Open the doors: sockets that listen in the network, answered from out here."""
        if not doors:
            return
        ours, theirs = socket.socketpair()
        at = network.namespace
        within = ["nsenter", f"--net={at}"] if self.users.privileged else self.users.enter(at)
        words = [word for address, door in zip(addresses, doors, strict=True) for word in (address, str(door.port))]
        with ours, theirs:
            process = await asyncio.create_subprocess_exec(
                *("setpriv", "--pdeathsig", "KILL", *within),
                *(sys.executable, "-I", "-S", "-c", _LISTEN, str(theirs.fileno()), *words),
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
            )
            said = await last_words(process)
            if process.returncode != 0:
                raise OSError(said.decode(errors="replace").strip().rpartition("\n")[2])
            _, numbers, _, _ = socket.recv_fds(ours, 1, len(doors))
        turns = asyncio.Semaphore(_AT_ONCE)
        for number, door in zip(numbers, doors, strict=True):
            server = await asyncio.start_server(
                Passage(door, turns, network.passages), sock=socket.socket(fileno=number)
            )
            network.servers.append(server)


async def _configure(maker: asyncio.subprocess.Process, lines: Sequence[str]) -> None:
    said, _ = await maker.communicate("".join(f"{line}\n" for line in lines).encode())
    if maker.returncode != 0:
        raise OSError(said.decode(errors="replace").strip())


def _addresses(network: Network, doors: Sequence[Door]) -> list[str]:
    """Where each door is in the network: at the address it has, or at one of the loopback that its name stands for."""
    addresses: list[str] = []
    for door in doors:
        if door.host == "localhost" or door.host.startswith("127."):
            addresses.append("127.0.0.1" if door.host == "localhost" else door.host)
        elif door.host.replace(".", "").isdigit():
            addresses.append(door.host)
        else:
            network.names.setdefault(door.host, f"127.1.0.{len(network.names) + 1}")
            addresses.append(network.names[door.host])
    return addresses


@dataclass(frozen=True)
class Passage:
    """Carries bytes between a connection inside and the server outside."""

    door: Door
    turns: asyncio.Semaphore
    under_way: "set[asyncio.Task[None]]"
    """Holds what is carried, which the event loop does not; whoever closes the network ends these."""

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its beginning to its end."""
        task = asyncio.create_task(self._carried(reader, writer))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def _carried(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self.turns:
            try:
                far_reader, far_writer = await asyncio.open_connection(self.door.host, self.door.port)
            except OSError:
                writer.close()
                return
            try:
                await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
            finally:
                writer.close()
                far_writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, to its end; a side that breaks off ends the other direction, too."""
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except (OSError, RuntimeError):
        writer.close()
