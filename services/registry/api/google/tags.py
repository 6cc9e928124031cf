"""Tags as Artifact Registry's v1 API shows and takes them."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from services.registry.api.google.contents import Contents
from services.registry.api.google.listing import Kind, Row, listed, wanted
from services.registry.api.google.places import PACKAGE, Places, digest_of, read, write
from services.registry.errors import TagExists
from services.registry.manifests import Manifest
from services.registry.names import ImageName, Tag
from shared.http.bodies import json_body
from shared.http.errors import InvalidArgument
from shared.http.masks import check_paths, field_mask
from shared.http.routes import Route
from shared.http.translation import json_answer

_KIND = Kind("tags", ("name", "version"))


class TagBody(BaseModel):
    """A tag as clients write it."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class TagFace:
    """Answers for `packages/P/tags`."""

    places: Places
    contents: Contents

    def routes(self) -> list[Route]:
        """Its paths."""
        one = f"{PACKAGE}/tags/{{tag}}"
        return [
            read(f"{PACKAGE}/tags", self.page, "tags.list", "ListTags"),
            write("POST", f"{PACKAGE}/tags", self.create, "tags.create", "CreateTag"),
            read(one, self.get, "tags.get", "GetTag"),
            write("PATCH", one, self.patch, "tags.update", "UpdateTag"),
            write("DELETE", one, self.delete, "tags.delete", "DeleteTag"),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of an image's tags; those of one version are found by its own index."""
        name = await self.places.package(request)
        store = self.places.registry.store
        version = wanted(request, _KIND).exact("version").rpartition("/versions/")[2]

        async def rows(after: str, limit: int) -> list[Row]:
            if version:
                tags = await store.tags_of(name, unquote(version), limit, after)
            else:
                tags = await store.tags(name, after, limit)
            pointers = [await store.pointer(name, tag) for tag in tags]
            pairs = zip(tags, pointers, strict=True)
            return [(tag, self.contents.tag_json(name, tag, pointer) if pointer else None) for tag, pointer in pairs]

        return await listed(request, _KIND, rows)

    async def get(self, request: web.Request) -> web.Response:
        """One tag."""
        name, tag = await self.places.package(request), request.match_info["tag"]
        return json_answer(self.contents.tag_json(name, tag, await self.places.pointer(name, tag)))

    async def create(self, request: web.Request) -> web.Response:
        """Let a new tag point at a version; raises TagExists."""
        name = await self.places.package(request)
        tag = Tag.parse(request.query.get("tagId", request.query.get("tag_id", "")))
        body = await json_body(request, TagBody)
        if await self.places.registry.store.pointer(name, tag) is not None:
            raise TagExists(f"There is a tag {tag} of {name.image} already.")
        return await self._pointed(request, name, tag, body, "Create")

    async def patch(self, request: web.Request) -> web.Response:
        """Let a tag point at another version."""
        name, tag = await self.places.package(request), Tag.parse(request.match_info["tag"])
        body = await json_body(request, TagBody)
        check_paths(field_mask(request) or ("version",), ("version", "name"))
        await self.places.pointer(name, tag)
        return await self._pointed(request, name, tag, body, "Update")

    async def delete(self, request: web.Request) -> web.Response:
        """Take a tag away; the version stays."""
        name, tag = await self.places.package(request), Tag.parse(request.match_info["tag"])
        act = self.places.act(request, "DeleteTag", "tags.delete")
        await self.places.registry.repository(name).untag(name, tag, act)
        return json_answer({})

    async def _pointed(self, request: web.Request, name: ImageName, tag: Tag, body: TagBody, verb: str) -> web.Response:
        """The same as pushing the version's manifest under the tag: one event, and the same rules."""
        here = f"{self.places.package_name(name)}/versions/"
        if not body.version.startswith(here):
            raise InvalidArgument(f"version must be one of this package: {here}DIGEST")
        version = await self.places.version_of(name, digest_of(unquote(body.version.removeprefix(here))))
        repository = self.places.registry.repository(name)
        stored = await repository.manifest(name, version.digest)
        manifest = Manifest.parse(stored.content, stored.media_type, version.digest)
        await repository.push(name, manifest, [tag], self.places.act(request, f"{verb}Tag", f"tags.{verb.lower()}"))
        return json_answer(self._json(name, tag, version.digest))

    def _json(self, name: ImageName, tag: str, digest: str) -> dict[str, Any]:
        package = self.places.package_name(name)
        return {"name": f"{package}/tags/{tag}", "version": f"{package}/versions/{digest}"}
