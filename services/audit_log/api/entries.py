"""`entries:list`: reading the log, as `gcloud logging read` and Google's clients do."""

import hashlib
import re

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.audit_log.filters import FilterWrong, Node, parse
from services.audit_log.query import Place, Query, Reader
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, NotFound
from shared.http.pages import after_of, next_token
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer

METHOD = "google.logging.v2.LoggingServiceV2.ListLogEntries"
READ, READ_PRIVATE = "logging.logEntries.list", "logging.privateLogEntries.list"
_PROJECT = re.compile(r"projects/([^/]+)(?:/locations/[^/]+/buckets/[^/]+/views/[^/]+)?")
_ORDERS = {"": False, "timestamp": False, "timestamp asc": False, "timestamp desc": True}
MOST = 1000


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    resource_names: tuple[str, ...] = Field(default=(), max_length=100)
    project_ids: tuple[str, ...] = Field(default=(), max_length=100)
    filter: str = ""
    order_by: str = ""
    page_size: int = Field(default=50, ge=0)
    page_token: str = ""


class EntriesApi:
    """Reads the request, asks the reader, writes the answer."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def routes(self) -> list[Route]:
        """One route."""
        because = "the body says which projects are read; each is asked for in the handler"
        return [
            Route("POST", "/v2/entries:list", self.list, "", None, METHOD, audit=Audit.DATA_READ, open_because=because)
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Entries of the projects named, as far as the caller may read them."""
        asked = await json_body(request, _Asked)
        if asked.order_by not in _ORDERS:
            raise InvalidArgument("orderBy is 'timestamp asc' or 'timestamp desc'")
        query = await self._query(request, asked, _parsed(asked.filter))
        fingerprint = _fingerprint(asked)
        page = await self._reader.page(query, _place(asked.page_token, fingerprint), min(asked.page_size or 50, MOST))
        body: dict[str, object] = {"entries": page.entries} if page.entries else {}
        if page.next is not None:
            place = [fingerprint, page.next.timestamp, page.next.sequence]
            body["nextPageToken"] = next_token(orjson.dumps(place).decode())
        return json_answer(body)

    async def _query(self, request: web.Request, asked: _Asked, node: Node) -> Query:
        call = call_of(request)
        projects = [_project(name) for name in asked.resource_names] + list(asked.project_ids)
        if not projects:
            raise InvalidArgument("resourceNames names no project")
        call.resource = f"projects/{projects[0]}"
        private: list[str] = []
        for project in dict.fromkeys(projects):
            resource = f"projects/{project}"
            await call.require(READ, resource)
            if await call.may(READ_PRIVATE, resource):
                private.append(project)
        return Query(frozenset(projects), frozenset(private), node, _ORDERS[asked.order_by])


def _parsed(text: str) -> Node:
    try:
        return parse(text)
    except FilterWrong as error:
        raise InvalidArgument(f"filter: {error}") from error


def _project(name: str) -> str:
    found = _PROJECT.fullmatch(name)
    if found is None:
        raise NotFound(f"there are no logs of {name[:200]!r}: resource names are projects/P")
    return found[1]


def _fingerprint(asked: _Asked) -> str:
    """A page token goes on with the query that it was given for."""
    parts = (*asked.resource_names, "|", *asked.project_ids, "|", asked.filter, asked.order_by)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _place(token: str, fingerprint: str) -> Place | None:
    if not token:
        return None
    try:
        given, timestamp, sequence = orjson.loads(after_of(token))
        place = Place(str(timestamp), int(sequence))
    except (ValueError, TypeError) as error:
        raise InvalidArgument("pageToken is not one that was given out here.") from error
    if given != fingerprint:
        raise InvalidArgument("pageToken was given for another query.")
    return place
