"""`docker build`, `docker tag` and `docker push` of a build, done by buildah in a store of the build's own.

A Dockerfile is a language of its own; buildah speaks it, and needs no daemon.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from services.builder.account import BuildAccount, write_auth_file
from services.builder.buildfile import BuildStep
from services.builder.errors import BuildfileInvalid, NoRuntime, PushFailed
from services.builder.references import parse_reference
from services.builder.sandbox.oci import RunningStep
from services.builder.workspace import WORKSPACE, Workspace
from shared.digest import Digest

STEP_NAMES = ("gcr.io/cloud-builders/docker", "docker")
"""Step names that mean this instead of a container."""

_WITH_VALUE = ("-t", "--tag", "-f", "--file", "--build-arg", "--label", "--target", "--platform")
_ALONE = ("--no-cache", "--pull", "-q", "--quiet", "--squash")
_TRUST = {"default": [{"type": "insecureAcceptAnything"}]}


@dataclass(frozen=True)
class Buildah:
    """buildah for one build: image store, credentials and trust policy lie in the build's folder."""

    workspace: Workspace
    account: BuildAccount | None
    home: str
    """Host and port of the registry that the account belongs to, and the build's project: nowhere else it logs in."""
    runtime: Path

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
        digest_file = self.workspace.folder / "digest"
        running = await self._run(self._push(image, digest_file))
        said = await _last(running.output())
        if await running.wait() != 0:
            raise PushFailed(f"push of {image}: {said}")
        return Digest.parse((await asyncio.to_thread(digest_file.read_text)).strip())

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
        isolation = (
            ["--isolation", "oci", "--runtime", str(self.runtime)] if os.geteuid() == 0 else ["--isolation", "chroot"]
        )
        return ["build", "--layers", *isolation, *options, str(self._place(arguments[0], directory))]

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
        folder = self.workspace.folder / "buildah"
        await asyncio.to_thread(folder.mkdir, mode=0o700, exist_ok=True)
        where = ["--root", str(folder / "store"), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
        process = await asyncio.create_subprocess_exec(
            *_alone(),
            *("buildah", *where, verb, *await self._trust(folder, verb), *rest),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)},
            cwd=self.workspace.shared,
            start_new_session=True,
        )
        return RunningStep(process)

    async def _trust(self, folder: Path, verb: str) -> list[str]:
        """Which registries are believed, and the login for ours."""
        if verb not in {"build", "push"}:
            return []
        policy, auth = folder / "policy.json", folder / "auth.json"
        await asyncio.to_thread(policy.write_bytes, orjson.dumps(_TRUST))
        if self.account is not None:
            write_auth_file(auth, self.home, await self.account.token())
        else:
            await asyncio.to_thread(auth.write_bytes, b"{}")
        plain = ["--tls-verify=false"] if parse_reference(f"{self.home}/any").local else []
        return ["--authfile", str(auth), "--signature-policy", str(policy), *plain]


def _alone() -> list[str]:
    """A mount and process namespace around buildah, so that nothing of it outlives the worker."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    inside = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
    return [
        *("setpriv", "--pdeathsig", "KILL", "unshare", *user, "--mount", "--pid", "--fork", "--kill-child"),
        *("--mount-proc", "--propagation", "private", "sh", "-c", inside, "sh"),
    ]


async def _last(output: AsyncIterator[bytes]) -> str:
    tail = b""
    async for piece in output:
        tail = (tail + piece)[-2000:]
    return tail.decode(errors="replace").strip().rpartition("\n")[2]
