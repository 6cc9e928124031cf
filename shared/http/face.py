"""The face of a service: its routes, each with its permission, behind the one middleware."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware as AiohttpMiddleware

from shared.clock import Clock, Ids
from shared.http.call import Counter
from shared.http.errors import ApiError
from shared.http.gate import Authenticate, Authoriser, Verifier, bearer
from shared.http.health import add_health
from shared.http.lane import Lane
from shared.http.limits import Limits
from shared.http.middleware import Challenge, FaceParts, Middleware
from shared.http.origins import Origins, peer
from shared.http.paths import resource_of
from shared.http.routes import Audit, Handler, Resource, Route
from shared.http.shortcuts import SHORTCUTS, Shortcuts
from shared.http.translation import ErrorBody, google_error
from shared.journal import Journal
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Traces, Unexported


@dataclass(frozen=True)
class Served:
    """All routes of a face, for whoever wants to try each of them."""

    routes: tuple[Route, ...]


ROUTES: web.AppKey[Served] = web.AppKey("ROUTES", Served)


LANE: web.AppKey[Lane] = web.AppKey("LANE", Lane)


class FaceMistake(TypeError):
    """A route is declared in a way that would let somebody in by oversight."""


def face(  # noqa: PLR0913 - these are the parts, each of which a test may want to replace
    service: str,
    routes: Sequence[Route],
    *,
    directory: Authoriser,
    verifier: Verifier,
    journal: Journal | None,
    clock: Clock,
    ids: Ids,
    limits: Limits | None = None,
    error_body: ErrorBody = google_error,
    challenge: Challenge | None = None,
    authenticate: Authenticate | None = None,
    metrics: Metrics | None = None,
    traces: Traces | None = None,
    origins: Origins = peer,
) -> web.Application:
    """Build the application that serves `routes`. Raises FaceMistake for a route that is open without a reason."""
    limits = limits or Limits()
    parts = FaceParts(
        service=service,
        authenticate=authenticate or bearer(verifier),
        counter=Counter(service, directory, journal, clock),
        ids=ids,
        limits=limits,
        error_body=error_body,
        challenge=challenge or _bearer_challenge,
        metrics=metrics or Metrics(service),
        traces=traces or Unexported(ids),
        origins=origins,
    )
    middleware = Middleware(parts)
    app = web.Application(middlewares=[_around(middleware)], client_max_size=limits.body)
    add_health(app, parts.metrics)
    shortcuts = app[SHORTCUTS] = Shortcuts(app, middleware.around)
    declared = [middleware.declare(app, route, checked(route), shortcuts) for route in routes]
    app[ROUTES] = Served(tuple(routes))
    app[LANE] = Lane(parts, verifier, middleware.turns, declared)
    return app


def checked(route: Route) -> Resource | None:
    """How the route's resource is found; raises FaceMistake where the declaration leaves something open."""
    where = f"{route.verb} {route.path}"
    resource = route.resource or resource_of(route.path)
    if not route.permission and not route.open_because:
        raise FaceMistake(f"{where} asks for no permission and does not say why (open_because)")
    if route.permission and resource is None:
        raise FaceMistake(f"{where} asks for {route.permission} on nothing: say on which resource")
    if route.audit is not Audit.NONE and not route.method:
        raise FaceMistake(f"{where} is audited and has no method name")
    if route.glance is not None and (not route.permission or route.audit is not Audit.DATA_READ):
        raise FaceMistake(f"{where} is for the lane, which is for reads that ask for a permission")
    return resource


def _around(middleware: Middleware) -> AiohttpMiddleware:
    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await middleware.around(request, handler)

    return around


def _bearer_challenge(request: web.Request, error: ApiError) -> Mapping[str, str]:
    reason = ', error="invalid_token"' if hdrs.AUTHORIZATION in request.headers else ""
    del error
    return {hdrs.WWW_AUTHENTICATE: f'Bearer realm="entrepot"{reason}'}
