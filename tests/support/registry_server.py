"""A registry in a process of its own, for real clients: `python -m tests.support.registry_server FOLDER`.

State is in memory, bytes in the folder, and a token endpoint that believes everybody stands beside it. The first line
of its output is the port.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from services.registry.app import build
from shared.blobs.directory import DirectoryBlobs
from shared.clock import SystemClock
from shared.parts import Parts
from shared.telemetry.logs import log_to
from tests.support.parts import memory_parts
from tests.support.registry import ADA, ENVIRONMENT, granted


async def token(request: web.Request) -> web.Response:
    del request
    return web.json_response({"token": f"as:{ADA}", "access_token": f"as:{ADA}", "expires_in": 3600})


async def listening(app: web.Application, port: int = 0) -> int:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    return int(runner.addresses[0][1])


def parts_on(folder: Path, realm: str) -> Parts:
    environment = {**ENVIRONMENT, "ENTREPOT_REGISTRY_TOKEN_REALM": realm}
    made = granted(memory_parts("registry", environment=environment))
    return replace(made.parts, blobs=DirectoryBlobs(folder / "bucket"), clock=SystemClock())


async def main(folder: Path) -> None:
    tokens = web.Application()
    tokens.router.add_route("*", "/token", token)
    realm = f"http://127.0.0.1:{await listening(tokens)}/token"
    service = build(parts_on(folder, realm))
    port = await listening(service.app)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.gather(*(loop() for loop in service.background))


if __name__ == "__main__":
    log_to(sys.stderr, "warning", "registry")
    asyncio.run(main(Path(sys.argv[1])))
