"""Repositories and locations over Artifact Registry's v1 API: made, read, changed and deleted."""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from services.registry.api.google.listing import Kind, Row, listed
from services.registry.api.google.operations import Operations
from services.registry.api.google.places import LOCATION, REPOSITORY, TYPE, Places, read, write
from services.registry.api.google.repository import CHANGEABLE, TOLD, RepositoryBody, repository_json
from services.registry.records import RepositoryRecord, Settings
from shared.http.bodies import json_body, validated
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, NotFound
from shared.http.masks import apply_mask, check_paths, field_mask
from shared.http.routes import Route
from shared.http.translation import json_answer
from shared.names import REPOSITORY_ID

DELETING_SECONDS = 20.0
"""How long a deletion is waited for; a longer one goes on by itself, and its operation tells when it has ended."""

_KIND = Kind("repositories", ("name",), ("name", "createTime", "updateTime"))


@dataclass(frozen=True)
class RepositoryFace:
    """Answers for `locations` and `repositories`."""

    places: Places
    operations: Operations

    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            # gcloud asks for locations in an older version than for everything else.
            read("/v1beta2/projects/{project}/locations", self.locations, "locations.list", "ListLocations"),
            read("/v1/projects/{project}/locations", self.locations, "locations.list", "ListLocations"),
            read(LOCATION, self.location, "locations.get", "GetLocation"),
            read(f"{LOCATION}/repositories", self.page, "repositories.list", "ListRepositories"),
            write("POST", f"{LOCATION}/repositories", self.create, "repositories.create", "CreateRepository"),
            read(REPOSITORY, self.get, "repositories.get", "GetRepository"),
            write("PATCH", REPOSITORY, self.patch, "repositories.update", "UpdateRepository"),
            write("DELETE", REPOSITORY, self.delete, "repositories.delete", "DeleteRepository"),
        ]

    async def locations(self, request: web.Request) -> web.Response:
        """All locations that there are, whichever of them this deployment serves."""
        voice = self.places.registry.voice
        return json_answer({"locations": [_location(request, found) for found in voice.hosts or [voice.location]]})

    async def location(self, request: web.Request) -> web.Response:
        """One of them, by name."""
        location, voice = request.match_info["location"], self.places.registry.voice
        if location not in voice.hosts:
            self.places.here(request)
        return json_answer(_location(request, location))

    async def page(self, request: web.Request) -> web.Response:
        """A page of repositories; those that are being deleted are not among them."""
        project = self.places.here(request)
        store = self.places.registry.store

        async def rows(after: str, limit: int) -> list[Row]:
            ids = await store.repositories(project, after, limit)
            sizes = await store.sizes(project, ids)
            return [
                (found, self._listed(await store.repository(project, found), size))
                for found, size in zip(ids, sizes, strict=True)
            ]

        return await listed(request, _KIND, rows)

    async def create(self, request: web.Request) -> web.Response:
        """Make a repository."""
        project, call, registry = self.places.here(request), call_of(request), self.places.registry
        repository = request.query.get("repositoryId", request.query.get("repository_id", ""))
        if not REPOSITORY_ID.fullmatch(repository):
            raise InvalidArgument("repositoryId is written in small letters, digits and -, at most 63.")
        if registry.directory.project(project) is None:
            raise NotFound(f"There is no project {project}.")
        settings = (await json_body(request, RepositoryBody)).settings()
        record = await registry.repositories.create(project, repository, settings, registry.act(call, project))
        return self.operations.done(request, self._json(record, 0), f"{TYPE}.Repository")

    async def get(self, request: web.Request) -> web.Response:
        """One repository."""
        record = await self.places.repository(request)
        return json_answer(self._json(record, await self._size(record)))

    async def patch(self, request: web.Request) -> web.Response:
        """Change the fields that the mask names, or all that there are: clients send back what they read."""
        project, registry = self.places.here(request), self.places.registry
        body, paths = await json_body(request), field_mask(request)
        if not paths:
            paths = tuple(name for name in body if name not in TOLD)
        check_paths(paths, (*CHANGEABLE, "name"))

        def changed(record: RepositoryRecord) -> Settings:
            named = [path for path in paths if path != "name"]
            present = self._json(record, 0)
            wanted = apply_mask(present, body, named) if named else present
            return validated(RepositoryBody, wanted).settings()

        act = registry.act(call_of(request), project)
        record = await registry.repositories.update(project, request.match_info["repository"], changed, act)
        return json_answer(self._json(record, await self._size(record)))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a repository with all that is in it; what takes long goes on after the answer."""
        project, repository = self.places.here(request), request.match_info["repository"]
        repositories = self.places.registry.repositories
        act = self.places.registry.act(call_of(request), project)
        life = await repositories.close(project, repository, act)
        try:
            async with asyncio.timeout(DELETING_SECONDS):
                await repositories.finish_deletion(project, repository, act)
        except TimeoutError:
            return self.operations.deleting(request, repository, life)
        return self.operations.done(request)

    async def exists(self, request: web.Request) -> None:
        """Raises NameUnknown."""
        await self.places.repository(request)

    async def _size(self, record: RepositoryRecord) -> int:
        (size,) = await self.places.registry.store.sizes(record.project, [record.repository])
        return size

    def _json(self, record: RepositoryRecord, size: int) -> dict[str, Any]:
        return repository_json(self.places.registry.voice, record, size)

    def _listed(self, record: RepositoryRecord | None, size: int) -> dict[str, Any] | None:
        return self._json(record, size) if record and record.life else None


def _location(request: web.Request, location: str) -> dict[str, str]:
    return {
        "name": f"projects/{request.match_info['project']}/locations/{location}",
        "locationId": location,
        "displayName": location,
    }
