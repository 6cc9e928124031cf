"""Every route of a face, called by nobody, by a stranger and by somebody with the right role."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aiohttp import web

from shared.events.audit import AuditDenied
from shared.http.face import ROUTES
from shared.http.routes import Route
from tests.support.parts import Client, MemoryParts, bearer

STRANGER, MEMBER = "user:stranger@example.org", "user:member@example.org"
SAMPLES = {"project": "demo", "location": "local"}

_PLACE = re.compile(r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})*)?\}")


class Who(StrEnum):
    """Who tries."""

    ANONYMOUS = "anonymous"
    WITHOUT_ROLE = "without role"
    WITH_ROLE = "with role"


@dataclass(frozen=True)
class Cell:
    """One route, tried by one kind of caller."""

    route: Route
    who: Who

    def __str__(self) -> str:
        return f"{self.route.verb} {self.route.path} by {self.who}"


def cells(app: web.Application) -> list[Cell]:
    """The whole matrix, for `pytest.mark.parametrize("cell", cells(app), ids=str)`."""
    return [Cell(route, who) for route in app[ROUTES].routes for who in Who]


async def try_cell(
    client: Client,
    made: MemoryParts,
    cell: Cell,
    *,
    samples: Mapping[str, str] | None = None,
    body: Any = None,
    stranger_gets: tuple[int, ...] = (403,),
    credentials: Callable[[str], dict[str, str]] = bearer,
) -> int:
    """Call the route and assert what must hold for that caller; returns the status.

    `samples` fill the places of the path, by name; `credentials` make a member's headers, where a service does not
    believe the tokens of `memory_parts`.

    Nobody is answered 401 with a challenge, a stranger 403, and who has what the route asks for is neither refused nor
    answered with a defect, whatever it says about the sample thing. Open routes must only not break.
    """
    path = _PLACE.sub(lambda found: ({**SAMPLES, **(samples or {})}).get(found[1], "sample"), cell.route.path)
    given = _headers(cell.who, credentials)
    status, headers = await _call(client, cell.route, path, given, body)
    if not cell.route.permission:
        assert status < 500, f"{cell}: {status}"
        return status
    match cell.who:
        case Who.ANONYMOUS:
            assert status == 401, f"{cell}: {status}"
            assert "WWW-Authenticate" in headers, f"{cell}: no challenge"
        case Who.WITHOUT_ROLE:
            assert status in stranger_gets, f"{cell}: {status}"
        case Who.WITH_ROLE:
            status = await _granted(client, made, cell, path, given, body=body)
            assert status not in (401, 403), f"{cell}: {status}"
            assert status < 500, f"{cell}: {status}"
    return status


async def _granted(
    client: Client, made: MemoryParts, cell: Cell, path: str, headers: dict[str, str], *, body: Any
) -> int:
    """Give the caller what the denials name, one after the other, until there is no denial left."""
    status = 403
    for _ in range(6):
        denials = [event for event in made.journal.events if isinstance(event, AuditDenied)]
        for denial in denials:
            asked = denial.entry["protoPayload"]["authorizationInfo"][0]
            made.grant(asked["resource"], MEMBER, asked["permission"])
        made.journal.events.clear()
        status, _ = await _call(client, cell.route, path, headers, body)
        if status != 403:
            break
    return status


def _headers(who: Who, credentials: Callable[[str], dict[str, str]]) -> dict[str, str]:
    if who is Who.ANONYMOUS:
        return {}
    return credentials(STRANGER if who is Who.WITHOUT_ROLE else MEMBER)


async def _call(
    client: Client, route: Route, path: str, headers: dict[str, str], body: Any
) -> tuple[int, Mapping[str, str]]:
    verb = "GET" if route.verb == "*" else route.verb
    given = {} if verb in ("GET", "HEAD", "DELETE") else {"json": body if body is not None else {}}
    async with client.request(verb, path, headers=headers, allow_redirects=False, **given) as answer:
        await answer.read()
        return answer.status, answer.headers
