"""`docker build`, `docker tag` and `docker push` of a build, done by buildah in a store of the build's own.

A Dockerfile is a language of its own; buildah speaks it, and needs no daemon.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from services.builder.account import BuildAccount, write_auth_file
from services.builder.buildfile import BuildStep
from services.builder.errors import BuildfileInvalid, NoRuntime, PushFailed
from services.builder.references import parse_reference
from services.builder.sandbox import Limits, Network, Users
from services.builder.sandbox.cgroups import Cgroups
from services.builder.sandbox.confine import Confinement
from services.builder.sandbox.container import seccomp
from services.builder.sandbox.oci import OciSandbox, RunningStep, started
from services.builder.workspace import WORKSPACE, Workspace
from shared.digest import Digest

STEP_NAMES = ("gcr.io/cloud-builders/docker", "docker")
"""Step names that mean this instead of a container."""

_WITH_VALUE = ("-t", "--tag", "-f", "--file", "--build-arg", "--label", "--target", "--platform")
_ALONE = ("--no-cache", "--pull", "-q", "--quiet", "--squash")
_TRUST = {"default": [{"type": "insecureAcceptAnything"}]}


@dataclass
class Buildah:
    """buildah for one build: image store, credentials and trust policy lie in the build's folder.

    It is confined as a container runtime is, and has a network of the build's own in which our registry is found under
    its name. So neither a FROM line nor an ADD of an address leads where steps may not go.
    """

    workspace: Workspace
    account: BuildAccount | None
    home: str
    """Host and port of the registry that the account belongs to, and the build's project: nowhere else it logs in."""
    sandbox: OciSandbox
    limits: Limits
    connect: Callable[[], Awaitable[Network]]
    """Makes the network."""
    _network: Network | None = field(default=None, init=False)
    _connecting: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _runs: int = field(default=0, init=False)

    @staticmethod
    def wanted(name: str) -> bool:
        """Whether a step of this name is meant."""
        return name.partition(":")[0] in STEP_NAMES

    @staticmethod
    def reads_the_workspace(step: BuildStep) -> bool:
        """Whether a step has buildah read files that other steps may write."""
        return Buildah.wanted(step.name) and step.args[:1] == ["build"]

    async def start(self, arguments: Sequence[str], directory: str) -> RunningStep:
        """Start one `docker` command. Raises BuildfileInvalid for what is not spoken here, NoRuntime where none is."""
        verb, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
        if verb == "build":
            return await self._run(self._build(rest, directory))
        if verb == "tag" and len(rest) == 2:
            return await self._run(["tag", *rest])
        if verb == "push" and len(rest) == 1:
            return await self._run(self._push(rest[0], None))
        raise BuildfileInvalid(f"the docker step speaks build, tag and push; got {' '.join(arguments[:3])!r}")

    async def push(self, image: str) -> str:
        """Push an image that the build made; returns the digest the registry has it by. Raises PushFailed."""
        digest_file = self.workspace.folder / "buildah" / "digest"
        running = await self._run(self._push(image, digest_file))
        said = await _last(running.output())
        if await running.wait() != 0:
            raise PushFailed(f"push of {image}: {said}")
        return Digest.parse(await asyncio.to_thread(_read_digest, digest_file))

    async def close(self) -> None:
        """Let the network go."""
        if self._network is not None:
            await self._network.close()

    def _build(self, arguments: list[str], directory: str) -> list[str]:
        options: list[str] = []
        while arguments and arguments[0].startswith("-"):
            flag = arguments.pop(0)
            name, _, value = flag.partition("=")
            if name in _ALONE:
                options.append(flag)
            elif name in _WITH_VALUE and (value or arguments):
                options += [name, value or arguments.pop(0)]
            else:
                raise BuildfileInvalid(f"docker build {flag} is not spoken here")
        if len(arguments) != 1:
            raise BuildfileInvalid("docker build takes its options first, then one context directory")
        self._within(options, directory)
        return ["build", "--layers", *self._isolation(), *options, str(self._place(arguments[0], directory))]

    def _isolation(self) -> list[str]:
        """RUN lines have a container of their own within the confinement, and its network."""
        without = ["--runtime-flag", "cgroup-manager=disabled"] if self.sandbox.binary.name == "crun" else []
        filter_ = ["--security-opt", "seccomp=/etc/containers/seccomp.json", "--cap-drop", "CAP_NET_RAW"]
        return ["--isolation", "oci", "--runtime", str(self.sandbox.binary), *without, "--network", "host", *filter_]

    def _within(self, options: list[str], directory: str) -> None:
        """Dockerfiles are named relative to the step's directory; docker reads them so, buildah from its own."""
        for position, option in enumerate(options):
            if option in {"-f", "--file"}:
                options[position + 1] = str(self._place(options[position + 1], directory))

    def _place(self, path: str, directory: str) -> Path:
        """A path of the step as a path of the worker; it must lie in the workspace, links followed."""
        inside = Path(directory, path).as_posix()
        if inside != WORKSPACE and not inside.startswith(f"{WORKSPACE}/"):
            raise BuildfileInvalid(f"{path!r} is not in {WORKSPACE}")
        place = (self.workspace.shared / inside.removeprefix(WORKSPACE).lstrip("/")).resolve()
        if not place.is_relative_to(self.workspace.shared.resolve()):
            raise BuildfileInvalid(f"{path!r} leads out of {WORKSPACE}")
        return place

    def _push(self, image: str, digest_file: Path | None) -> list[str]:
        parse_reference(image)
        digest = ["--digestfile", str(digest_file)] if digest_file else []
        return ["push", *digest, image, f"docker://{image}"]

    async def _run(self, command: list[str]) -> RunningStep:
        if shutil.which("buildah") is None:
            raise NoRuntime("this build needs buildah, which is not installed here: install the package buildah")
        verb, *rest = command
        self._runs += 1
        place = self.workspace.fresh(f"buildah-{self._runs}")
        folder = self.workspace.folder / "buildah"
        await asyncio.to_thread(self._prepare, place, folder)
        login = await self.login(place) if verb in {"build", "push"} else []
        network = await self._connected()
        hosts, resolver = network.write_files(place / "etc")
        assert hosts.parent == resolver.parent  # noqa: S101 - both are in the /etc that it gets
        name = f"{self.workspace.folder.name}-{place.name}"
        groups = await asyncio.to_thread(self.sandbox.cgroups.make, name, self.limits)
        confinement = Confinement(
            users=self.sandbox.users,
            view=place / "view",
            folders=(self.workspace.shared, folder, place, self.sandbox.binary.parent),
            network=network.namespace,
            etc=place / "etc",
            groups=groups,
        )
        where = store(folder / "store", self.sandbox.users)
        inside = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(self.workspace.shared)]
        program = [*inside, "buildah", *where, verb, *login, *rest]
        return await started(confinement, program, {"HOME": "/root"}, lambda: Cgroups.remove(groups))

    def _prepare(self, place: Path, folder: Path) -> None:
        """Make the store, and the /etc that this run has."""
        if not folder.exists():
            folder.mkdir(mode=0o700)
            self.sandbox.users.give(folder)
        containers = place / "etc" / "containers"
        containers.mkdir(parents=True)
        (place / "view").mkdir()
        host = self.home.partition("/")[0]
        plain = f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' if self._plain() else ""
        files = {
            "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            "group": "root:x:0:\nnogroup:x:65534:\n",
            "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
            "containers/registries.conf": f"unqualified-search-registries = []\n{plain}",
            "containers/containers.conf": "[containers]\ndefault_ulimits = []\n",
            "containers/policy.json": orjson.dumps(_TRUST).decode(),
            "containers/seccomp.json": orjson.dumps(seccomp()).decode(),
        }
        for name, content in files.items():
            (place / "etc" / name).write_text(content)

    async def login(self, place: Path) -> list[str]:
        """The words that give buildah the login for our registry; written into a folder of one run's own."""
        auth = place / "auth.json"
        if self.account is not None:
            write_auth_file(auth, self.home, await self.account.token())
        else:
            await asyncio.to_thread(auth.write_bytes, b"{}")
        self.sandbox.users.give(auth)
        return ["--authfile", str(auth)]

    def _plain(self) -> bool:
        return parse_reference(f"{self.home}/any").local

    async def _connected(self) -> Network:
        async with self._connecting:
            if self._network is None:
                self._network = await self.connect()
            return self._network


def store(folder: Path, users: Users) -> list[str]:
    """The words that name the build's store; without root there are no other owners that files could be given to."""
    words = ["--root", str(folder), "--runroot", "/run/containers", "--storage-driver", "vfs"]
    return words if users.privileged else [*words, "--storage-opt", "vfs.ignore_chown_errors=true"]


def _read_digest(file: Path) -> str:
    """What buildah wrote, from a folder that is not the worker's own: no link is followed, and little is read."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as opened:
        return opened.read(200).strip()


async def _last(output: AsyncIterator[bytes]) -> str:
    tail = b""
    async for piece in output:
        tail = (tail + piece)[-2000:]
    return tail.decode(errors="replace").strip().rpartition("\n")[2]
