"""Packages as Artifact Registry's v1 API shows and takes them: each is an image with its versions."""

from dataclasses import dataclass

from aiohttp import web

from services.registry.annotating import Annotating
from services.registry.api.google.annotations import annotated
from services.registry.api.google.contents import Contents
from services.registry.api.google.listing import Kind, Row, listed
from services.registry.api.google.operations import Operations
from services.registry.api.google.places import PACKAGE, REPOSITORY, Places, read, write
from services.registry.deletion import FREE
from services.registry.emptying import Emptying
from services.registry.names import ImageName
from shared.http.routes import Route
from shared.http.translation import json_answer

_KIND = Kind("packages", ("name", "annotations"), ("name", "createTime", "updateTime"))


@dataclass(frozen=True)
class PackageFace:
    """Answers for `packages`."""

    places: Places
    operations: Operations
    contents: Contents
    annotating: Annotating
    emptying: Emptying

    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            read(f"{REPOSITORY}/packages", self.page, "packages.list", "ListPackages"),
            read(PACKAGE, self.get, "packages.get", "GetPackage"),
            write("PATCH", PACKAGE, self.patch, "packages.update", "UpdatePackage"),
            write("DELETE", PACKAGE, self.delete, "packages.delete", "DeletePackage"),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of images."""
        record = await self.places.repository(request)
        store = self.places.registry.store

        async def rows(after: str, limit: int) -> list[Row]:
            images = await store.images(record.project, record.repository, after, limit)
            named = [ImageName(record.project, record.repository, image) for image in images]
            return [(name.image, await self.contents.package_json(name)) for name in named]

        return await listed(request, _KIND, rows)

    async def get(self, request: web.Request) -> web.Response:
        """One image."""
        return json_answer(await self.contents.package_json(await self.places.package(request)))

    async def patch(self, request: web.Request) -> web.Response:
        """Change a package's annotations."""
        name, changed = await self.places.package(request), await annotated(request)
        act = self.places.act(request, "UpdatePackage", "packages.update")
        await self.annotating.package(name, changed, act)
        return await self.get(request)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete an image with all its versions and tags; each is announced."""
        name = await self.places.package(request)
        act = self.places.act(request, "DeletePackage", "packages.delete")
        await self.emptying.empty(name, act, FREE)
        return self.operations.done(request)
