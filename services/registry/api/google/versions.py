"""Versions of packages as Artifact Registry's v1 API shows and takes them: each is a manifest."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.registry.acts import Act
from services.registry.annotating import Annotating
from services.registry.api.google.annotations import annotated
from services.registry.api.google.contents import Contents
from services.registry.api.google.listing import Kind, Row, listed
from services.registry.api.google.operations import Operations
from services.registry.api.google.places import PACKAGE, Places, read, write
from services.registry.cascading import ALONE, Reach
from services.registry.deletion import FREE, Guard
from services.registry.errors import StillHeld
from services.registry.names import ImageName
from services.registry.records import Version
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import FailedPrecondition, InvalidArgument
from shared.http.routes import Route
from shared.http.translation import json_answer
from shared.state import IsEmpty

_KIND = Kind("versions", ("name", "annotations"), ("name", "createTime", "updateTime"))
_MOST = 1000
"""Versions that one call deletes."""


class BatchDelete(BaseModel):
    """Which versions are to be deleted together."""

    model_config = ConfigDict(extra="forbid")

    names: list[str] = Field(min_length=1, max_length=_MOST)
    validate_only: bool = Field(default=False, alias="validateOnly")


@dataclass(frozen=True)
class VersionFace:
    """Answers for `packages/P/versions`."""

    places: Places
    operations: Operations
    contents: Contents
    annotating: Annotating

    def routes(self) -> list[Route]:
        """Its paths."""
        one = f"{PACKAGE}/versions/{{version}}"
        return [
            read(f"{PACKAGE}/versions", self.page, "versions.list", "ListVersions"),
            write(
                "POST", f"{PACKAGE}/versions:batchDelete", self.batch_delete, "versions.delete", "BatchDeleteVersions"
            ),
            read(one, self.get, "versions.get", "GetVersion"),
            write("PATCH", one, self.patch, "versions.update", "UpdateVersion"),
            write("DELETE", one, self.delete, "versions.delete", "DeleteVersion"),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of an image's versions."""
        name, full = await self.places.package(request), _full(request)

        async def rows(after: str, limit: int) -> list[Row]:
            found = await self.contents.versions(name, after, limit)
            return [(version.digest, await self.contents.version_json(version, full=full)) for version in found]

        return await listed(request, _KIND, rows)

    async def get(self, request: web.Request) -> web.Response:
        """One version."""
        version = await self.places.version(request)
        return json_answer(await self.contents.version_json(version, full=_full(request)))

    async def patch(self, request: web.Request) -> web.Response:
        """Change a version's annotations."""
        version, changed = await self.places.version(request), await annotated(request)
        act = self.places.act(request, "UpdateVersion", "versions.update")
        await self.annotating.version(version, changed, act)
        return await self.get(request)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a version; one that has tags only with `force`, what belongs to it only with `cascade`."""
        version = await self.places.version(request)
        act = self.places.act(request, "DeleteVersion", "versions.delete")
        force = request.query.get("force", "").lower() == "true"
        await self._delete(version, act, force=force, reach=Reach.parse(request.query.getall("cascade", [])))
        return self.operations.done(request)

    async def batch_delete(self, request: web.Request) -> web.Response:
        """Delete several versions, indexes before what they list; nothing is deleted where one of them may not be."""
        name, body = await self.places.package(request), await json_body(request, BatchDelete)
        act = self.places.act(request, "BatchDeleteVersions", "versions.delete")
        here = f"{self.places.package_name(name)}/versions/"
        for full_name in body.names:
            if not full_name.startswith(here):
                raise InvalidArgument(f"{full_name[:200]} is no version of this package.")
        digests = dict.fromkeys(unquote(full_name.removeprefix(here)) for full_name in body.names)
        versions = [await self.places.version_of(name, digest) for digest in digests]
        for version in versions:
            await self._refuse_tagged(version)
        await self._refuse_held(name, versions)
        if body.validate_only:
            call_of(request).changed_nothing()
        else:
            await self._delete_all(versions, act)
        return self.operations.done(request)

    async def _delete_all(self, versions: Sequence[Version], act: Act) -> None:
        """Each round deletes what the one before has freed."""
        while versions:
            left: list[Version] = []
            for version in versions:
                try:
                    await self._delete(version, act.part(version.digest), force=False)
                except StillHeld:
                    left.append(version)
            if len(left) == len(versions):
                raise StillHeld(f"an index still lists {left[0].digest}: delete that first")
            versions = left

    async def _delete(self, version: Version, act: Act, *, force: bool, reach: Reach = ALONE) -> None:
        guard = FREE
        if not force:
            await self._refuse_tagged(version)
            guard = Guard(checks=(IsEmpty(self.places.registry.store.layout.tags_of(version.name, version.digest)),))
        await self.places.registry.standard.cascading.delete(version.name, version.digest, act, reach, guard)

    async def _refuse_tagged(self, version: Version) -> None:
        tags = await self.places.registry.store.tags_of(version.name, version.digest, 3)
        if tags:
            raise FailedPrecondition(f"{version.digest} has the tag {tags[0]}: delete its tags first, or use force.")

    async def _refuse_held(self, name: ImageName, versions: Sequence[Version]) -> None:
        going = {version.digest for version in versions}
        for version in versions:
            for parent in await self.places.registry.store.parents(name, version.digest, _MOST + 1):
                if parent not in going:
                    raise StillHeld(f"the index {parent} lists {version.digest}: delete that first")


def _full(request: web.Request) -> bool:
    return request.query.get("view", "") == "FULL"
