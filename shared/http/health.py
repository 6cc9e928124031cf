"""Whether a service lives, whether it is ready and if not why, and what it counted."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from shared.http.translation import json_answer
from shared.telemetry.metrics import Metrics


@dataclass(frozen=True)
class Readiness:
    """What whoever runs the application knows of its state."""

    reasons: Callable[[], list[str]]
    """Why this replica is not ready; an empty list: it is."""
    heard_all: Callable[[], bool]
    """Whether everything said before the start is known; before that nothing can be decided."""
    suite: str = ""
    """Which run of a suite this process belongs to, where it is one."""


READY: web.AppKey[Readiness] = web.AppKey("READY", Readiness)
"""Set by whoever runs the application."""

ALWAYS = Readiness(list[str], lambda: True)

PATHS = ("/healthz", "/readyz", "/metrics")


def add_health(app: web.Application, metrics: Metrics) -> None:
    """Add the three addresses that need no token: they say nothing about anybody's data."""

    async def ready(request: web.Request) -> web.Response:
        known = request.app.get(READY, ALWAYS)
        reasons = known.reasons()
        whose = {"suite": known.suite} if known.suite else {}
        return json_answer({"ready": not reasons, "reasons": reasons, **whose}, 503 if reasons else 200)

    async def counted(request: web.Request) -> web.Response:
        del request
        return web.Response(body=metrics.text(), content_type="text/plain", charset="utf-8")

    for path, handler in zip(PATHS, (_alive, ready, counted), strict=True):
        app.router.add_get(path, handler)


async def _alive(request: web.Request) -> web.Response:
    del request
    return json_answer({"alive": True})
