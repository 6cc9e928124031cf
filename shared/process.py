"""How a service's process is started: its settings, its log, its event loop, and then its life."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable

import structlog

from shared.assembly import assembled
from shared.lifetime import Lifetime
from shared.parts import Build
from shared.settings import Settings, SettingsWrong, read
from shared.telemetry.logs import log_to, take_over

WRONG_SETTINGS = 78
"""Exit code for settings that cannot be: EX_CONFIG of sysexits.h."""


def run(service: str, build: Build, *, loop: str = "uvloop") -> None:
    """Run a service until it is told to stop; `loop` is what it prefers, where the settings say nothing."""
    try:
        settings = read(Settings, os.environ)
        log_to(sys.stderr, settings.log_level, service)
        with asyncio.Runner(loop_factory=_loop_factory(settings.loop or loop)) as runner:
            code = runner.run(_live(service, build, settings))
    except SettingsWrong as error:
        sys.stderr.write(f"{service}: {error}\n")
        code = WRONG_SETTINGS
    except Exception as error:  # noqa: BLE001 - the last line of a process: told in the form of all other logs
        structlog.get_logger("process").error("not started", reason=str(error), exc_info=error)
        code = 1
    raise SystemExit(code)


async def _live(service: str, build: Build, settings: Settings) -> int:
    async with assembled(service, settings, os.environ) as real:
        take_over()
        lifetime = Lifetime(real, build(real.parts))
        _begin_to_look_for_garbage()
        return await lifetime.live()


def _begin_to_look_for_garbage() -> None:
    """Services end it before their first import. What is there by now stays, and is never looked through again."""
    gc.freeze()
    gc.enable()


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    import uvloop  # noqa: PLC0415 - a service on asyncio needs no uvloop

    return uvloop.new_event_loop
