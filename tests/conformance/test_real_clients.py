"""Real clients against a registry in a process of its own: what they push is what they and others pull."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession

from tests.support.images import Image, image_of, layer_of
from tests.support.layouts import LayoutWriter
from tests.support.registry import ADA

needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
needs_podman = pytest.mark.skipif(shutil.which("podman") is None, reason="podman is not installed")
WHO = {"Authorization": f"Bearer as:{ADA}"}


@asynccontextmanager
async def server(folder: Path) -> AsyncGenerator[tuple[str, int]]:
    """Address and process id of a registry."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.registry_server", str(folder), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        port = int(await asyncio.wait_for(process.stdout.readline(), 30))
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.kill()
        await process.wait()


async def run(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a client; its output, or an error with all it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, said.decode()
    return said.decode()


def layout(folder: Path, image: Image) -> Path:
    """An image as an OCI layout."""
    writer = LayoutWriter(folder)
    writer.name(writer.add(image), "latest")
    return folder


def sample() -> Image:
    return image_of([layer_of({"bin/one": os.urandom(300_000)}), layer_of({"etc/two": b"two" * 1000})])


def copy(*ends: str) -> Sequence[str]:
    return ("skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", *ends)


@needs_skopeo
async def test_skopeo_pushes_inspects_copies_pulls_and_deletes(tmp_path: Path) -> None:
    image = sample()
    source = layout(tmp_path / "layout", image)
    async with server(tmp_path) as (address, _):
        await run(*copy(f"oci:{source}:latest", f"docker://{address}/demo/web/app:v1"))
        seen = json.loads(await run("skopeo", "inspect", "--tls-verify=false", f"docker://{address}/demo/web/app:v1"))
        assert (seen["Digest"], seen["RepoTags"]) == (image.digest, ["v1"])
        await run(*copy(f"docker://{address}/demo/web/app:v1", f"docker://{address}/demo/other/app:v2"))
        await run(*copy(f"docker://{address}/demo/other/app:v2", f"oci:{tmp_path}/back:latest"))
        assert (tmp_path / "back" / "blobs" / image.digest.replace(":", "/")).read_bytes() == image.manifest
        await run("skopeo", "delete", "--tls-verify=false", f"docker://{address}/demo/web/app:v1")
        async with ClientSession(headers=WHO) as session:
            gone = await session.head(f"http://{address}/v2/demo/web/app/manifests/v1")
            assert gone.status == 404


@needs_podman
async def test_podman_pulls_and_pushes(tmp_path: Path) -> None:
    image = sample()
    source = layout(tmp_path / "layout", image)
    async with server(tmp_path) as (address, _):
        environment = podman_environment(tmp_path, address)
        reference = f"{address}/demo/web/app"
        await run(*copy(f"oci:{source}:latest", f"docker://{reference}:v1"))
        await run("podman", "pull", "--tls-verify=false", f"{reference}:v1", environment=environment)
        await run("podman", "tag", f"{reference}:v1", f"{reference}:v2", environment=environment)
        await run("podman", "push", "--tls-verify=false", f"{reference}:v2", environment=environment)
        async with ClientSession(headers=WHO) as session:
            pushed = await session.get(f"http://{address}/v2/demo/web/app/manifests/v2")
            assert pushed.status == 200
            layers = orjson.loads(image.manifest)["layers"]
            assert len(orjson.loads(await pushed.read())["layers"]) == len(layers)
        await run("podman", "rmi", "--all", "--force", environment=environment)


def podman_environment(folder: Path, address: str) -> dict[str, str]:
    files = {
        "containers.conf": '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n',
        "storage.conf": f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n',
        "registries.conf": f'[[registry]]\nlocation = "{address}"\ninsecure = true\n',
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
    }
