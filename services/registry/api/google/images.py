"""Docker images as Artifact Registry's v1 API shows them: every version of every image of a repository."""

from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import web

from services.registry.api.google.contents import Contents
from services.registry.api.google.listing import Kind, Row, listed
from services.registry.api.google.places import REPOSITORY, Places, digest_of, read
from services.registry.errors import ManifestUnknown
from shared.http.routes import Route
from shared.http.translation import json_answer

_KIND = Kind("dockerImages", (), ("name", "imageSizeBytes", "uploadTime", "updateTime", "mediaType"))


@dataclass(frozen=True)
class ImageFace:
    """Answers for `dockerImages`."""

    places: Places
    contents: Contents

    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            read(f"{REPOSITORY}/dockerImages", self.page, "dockerimages.list", "ListDockerImages"),
            read(f"{REPOSITORY}/dockerImages/{{image:.+}}", self.get, "dockerimages.get", "GetDockerImage"),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of versions of all images."""
        record = await self.places.repository(request)

        async def rows(after: str, limit: int) -> list[Row]:
            found = await self.contents.docker_images(record.project, record.repository, after, limit)
            return [
                (f"{version.name.image}@{version.digest}", await self.contents.docker_image_json(version))
                for version in found
            ]

        return await listed(request, _KIND, rows)

    async def get(self, request: web.Request) -> web.Response:
        """One version of one image."""
        image, _, text = unquote(request.match_info["image"]).rpartition("@")
        name = await self.places.image(request, image)
        version = await self.places.registry.store.version(name, digest_of(text))
        if version is None:
            raise ManifestUnknown(f"There is no image {image}@{text}.")
        return json_answer(await self.contents.docker_image_json(version))
