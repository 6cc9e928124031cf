"""The generated matrix finds what it is for."""

import pytest
from aiohttp import web

from shared.http.errors import PermissionDenied
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.parts import Service
from tests.support.matrix import Cell, Who, cells, try_cell
from tests.support.parts import client_of, memory_parts


async def _fine(request: web.Request) -> web.Response:
    return json_answer({"path": request.path})


async def _always_refuses(request: web.Request) -> web.Response:
    raise PermissionDenied(request.path)


def _route(handler: object = _fine, permission: str = "things.get") -> Route:
    return Route("GET", "/v1/projects/{project}/things/{thing}", handler, permission, method="t", audit=Audit.NONE)  # type: ignore[arg-type]


@pytest.mark.parametrize("who", list(Who))
async def test_a_guarded_route_passes_for_every_caller(who: Who) -> None:
    made = memory_parts("cleanup")
    app = made.parts.face([_route()])
    assert [cell.who for cell in cells(app)] == list(Who)
    async with client_of(Service(app)) as client:
        status = await try_cell(client, made, Cell(_route(), who))
    assert status == {Who.ANONYMOUS: 401, Who.WITHOUT_ROLE: 403, Who.WITH_ROLE: 200}[who]


async def test_a_route_that_refuses_whoever_asks_is_found() -> None:
    made = memory_parts("cleanup")
    async with client_of(Service(made.parts.face([_route(_always_refuses)]))) as client:
        with pytest.raises(AssertionError, match="with role: 403"):
            await try_cell(client, made, Cell(_route(), Who.WITH_ROLE))
