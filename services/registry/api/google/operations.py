"""Operations, as Google's clients ask for them: the name of one is signed and says all that there is to know.

Nothing is kept: what was finished when it was answered stays finished, what was made is shown as it is now, and a
deletion of a repository that goes on after its answer is looked up.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from services.registry.api.google.places import LOCATION, TYPE, Places, read
from shared.http.call import call_of
from shared.http.errors import NotFound
from shared.http.operations import finished, running
from shared.http.routes import Route
from shared.http.translation import json_answer

_METADATA = {"@type": f"type.googleapis.com/{TYPE}.OperationMetadata"}
_EMPTY = "google.protobuf.Empty"
_DONE, _DELETION = "done", "delete"
_BETWEEN = "~"
"""Stands between a repository and what was made in it; in neither of them."""

Shown = tuple[dict[str, Any], str]
"""A thing as clients read it, and the name of its type."""
Show = Callable[[str, str, str], Awaitable[Shown]]
"""Shows something of a project and repository; raises NotFound."""


@dataclass(frozen=True)
class Operations:
    """Names operations and answers for `operations`."""

    places: Places
    key: bytes
    """What names are signed with, the same in all replicas."""
    shows: Mapping[str, Show] = field(default_factory=dict[str, Show])
    """How what was made is shown, by the kind of operation."""

    def routes(self) -> list[Route]:
        """Its paths."""
        return [read(f"{LOCATION}/operations/{{operation}}", self.get, "locations.get", "GetOperation")]

    def done(self, request: web.Request, response: dict[str, Any] | None = None, kind: str = _EMPTY) -> web.Response:
        """The answer to a request that is finished."""
        name = self._name(self.places.here(request), _DONE, call_of(request).id)
        return json_answer(finished(name, response or {}, kind, _METADATA))

    def made(self, request: web.Request, kind: str, repository: str, thing: str, shown: Shown) -> dict[str, Any]:
        """The operation that made something; asked for later, it shows the thing as it is then."""
        name = self._name(self.places.here(request), kind, f"{repository}{_BETWEEN}{thing}")
        return finished(name, *shown, _METADATA)

    def deleting(self, request: web.Request, repository: str, life: str) -> web.Response:
        """The answer to the deletion of a repository that goes on."""
        name = self._name(self.places.here(request), _DELETION, f"{repository}/{life}".replace("/", "."))
        return json_answer(running(name, _METADATA))

    async def get(self, request: web.Request) -> web.Response:
        """How far an operation is; raises NotFound for a name that was not given out here."""
        project, text = self.places.here(request), request.match_info["operation"]
        kind, _, rest = text.rpartition(".")[0].partition(".")
        name = self._name(project, kind, rest)
        if not hmac.compare_digest(name.rpartition("/")[2].encode(), text.encode()):
            raise NotFound("There is no such operation.")
        if kind == _DELETION and await self._goes_on(project, *rest.rsplit(".", 1)):
            return json_answer(running(name, _METADATA))
        return json_answer(finished(name, *await self._shown(project, kind, rest), _METADATA))

    async def _shown(self, project: str, kind: str, rest: str) -> Shown:
        show = self.shows.get(kind)
        if show is None:
            return {}, _EMPTY
        repository, _, thing = rest.partition(_BETWEEN)
        try:
            return await show(project, repository, thing)
        except NotFound:
            return {}, _EMPTY  # it has gone since

    async def _goes_on(self, project: str, repository: str, life: str) -> bool:
        """A repository that is closed is being deleted; one of that name that was made since is another one."""
        record = await self.places.registry.store.repository(project, repository)
        return record is not None and record.life in {"", life}

    def _name(self, project: str, kind: str, rest: str) -> str:
        location = self.places.registry.voice.location
        about = f"{project}/{location}/{kind}.{rest}"
        signature = hmac.digest(self.key, about.encode(), hashlib.sha256)[:12].hex()
        return f"projects/{project}/locations/{location}/operations/{kind}.{rest}.{signature}"
