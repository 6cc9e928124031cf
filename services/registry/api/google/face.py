"""Artifact Registry's v1 API, as far as it goes here: repositories with their policies, and what is in them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from services.registry import names
from services.registry.api.google.contents import Contents
from services.registry.api.google.repository import CHANGEABLE, RepositoryBody, repository_json
from services.registry.errors import ManifestUnknown, NameUnknown
from services.registry.names import ImageName, is_image
from services.registry.records import RepositoryRecord, Settings
from services.registry.registry import Registry
from shared.digest import Digest
from shared.http.bodies import json_body, validated
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, NotFound
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.masks import apply_mask, check_paths, field_mask
from shared.http.operations import finished
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer
from shared.names import REPOSITORY_ID

LOCATION = "/v1/projects/{project}/locations/{location}"
REPOSITORY = f"{LOCATION}/repositories/{{repository:[^/:]+}}"
PACKAGE = f"{REPOSITORY}/packages/{{package:[^/:]+}}"
_METHOD = "google.devtools.artifactregistry.v1.ArtifactRegistry"
_METADATA = {"@type": "type.googleapis.com/google.devtools.artifactregistry.v1.OperationMetadata"}
_TYPE = "google.devtools.artifactregistry.v1.Repository"


def google_routes(registry: Registry, policies: Policies) -> list[Route]:
    """Every path under `/v1/`."""
    face = GoogleFace(registry, Contents(registry.store, registry.voice))
    guarded = Guarded(REPOSITORY, "artifactregistry.repositories", _METHOD, face.repository_exists)
    return [
        *iam_routes(policies, guarded),
        # gcloud asks for locations in an older version than for everything else.
        _read("/v1beta2/projects/{project}/locations", face.locations, "locations.list", "ListLocations"),
        _read("/v1/projects/{project}/locations", face.locations, "locations.list", "ListLocations"),
        _read(LOCATION, face.location, "locations.get", "GetLocation"),
        _read(f"{LOCATION}/repositories", face.list_repositories, "repositories.list", "ListRepositories"),
        _write("POST", f"{LOCATION}/repositories", face.create, "repositories.create", "CreateRepository"),
        _read(REPOSITORY, face.get, "repositories.get", "GetRepository"),
        _write("PATCH", REPOSITORY, face.patch, "repositories.update", "UpdateRepository"),
        _write("DELETE", REPOSITORY, face.delete, "repositories.delete", "DeleteRepository"),
        _read(f"{REPOSITORY}/dockerImages", face.docker_images, "dockerimages.list", "ListDockerImages"),
        _read(f"{REPOSITORY}/dockerImages/{{image:.+}}", face.docker_image, "dockerimages.get", "GetDockerImage"),
        _read(f"{REPOSITORY}/packages", face.packages, "packages.list", "ListPackages"),
        _read(PACKAGE, face.package, "packages.get", "GetPackage"),
        _read(f"{PACKAGE}/versions", face.versions, "versions.list", "ListVersions"),
        _read(f"{PACKAGE}/versions/{{version}}", face.version, "versions.get", "GetVersion"),
        _read(f"{PACKAGE}/tags", face.tags, "tags.list", "ListTags"),
        _read(f"{PACKAGE}/tags/{{tag}}", face.tag, "tags.get", "GetTag"),
    ]


def _read(path: str, handler: Handler, permission: str, method: str) -> Route:
    return Route("GET", path, handler, f"artifactregistry.{permission}", None, f"{_METHOD}.{method}", Audit.ADMIN_READ)


def _write(verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
    right = f"artifactregistry.{permission}"
    return Route(verb, path, handler, right, None, f"{_METHOD}.{method}", Audit.ADMIN_WRITE)


@dataclass(frozen=True)
class GoogleFace:
    """Reads the request, asks the registry, writes the answer."""

    registry: Registry
    contents: Contents

    # Locations.

    async def locations(self, request: web.Request) -> web.Response:
        """The one location that this deployment serves."""
        return json_answer({"locations": [self._location(request)]})

    async def location(self, request: web.Request) -> web.Response:
        """The same, by name."""
        self._here(request)
        return json_answer(self._location(request))

    def _location(self, request: web.Request) -> dict[str, str]:
        location = self.registry.voice.location
        name = f"projects/{request.match_info['project']}/locations/{location}"
        return {"name": name, "locationId": location, "displayName": location}

    # Repositories.

    async def list_repositories(self, request: web.Request) -> web.Response:
        """A page of repositories; those that are being deleted are not among them."""
        project = self._here(request)

        async def read(after: str, limit: int) -> list[tuple[str, dict[str, Any] | None]]:
            ids = await self.registry.store.repositories(project, after, limit)
            return [(found, self._listed(await self.registry.store.repository(project, found))) for found in ids]

        return await _page(request, "repositories", read)

    async def create(self, request: web.Request) -> web.Response:
        """Make a repository."""
        project, call = self._here(request), call_of(request)
        repository = request.query.get("repositoryId", request.query.get("repository_id", ""))
        if not REPOSITORY_ID.fullmatch(repository):
            raise InvalidArgument("repositoryId is written in small letters, digits and -, at most 63.")
        if self.registry.directory.project(project) is None:
            raise NotFound(f"There is no project {project}.")
        settings = (await json_body(request, RepositoryBody)).settings()
        act = self.registry.act(call, project)
        record = await self.registry.repositories.create(project, repository, settings, act)
        return json_answer(finished(self._operation(request), self._json(record), _TYPE, _METADATA))

    async def get(self, request: web.Request) -> web.Response:
        """One repository."""
        return json_answer(self._json(await self._record(request)))

    async def patch(self, request: web.Request) -> web.Response:
        """Change the fields that the mask names."""
        project, call = self._here(request), call_of(request)
        body, paths = await json_body(request), field_mask(request)
        check_paths(paths or tuple(body), (*CHANGEABLE, "name"))

        def changed(record: RepositoryRecord) -> Settings:
            wanted = apply_mask(self._json(record), body, [path for path in paths if path != "name"])
            return validated(RepositoryBody, wanted).settings()

        act = self.registry.act(call, project)
        record = await self.registry.repositories.update(project, request.match_info["repository"], changed, act)
        return json_answer(self._json(record))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a repository with all that is in it."""
        project, call = self._here(request), call_of(request)
        act = self.registry.act(call, project)
        await self.registry.repositories.delete(project, request.match_info["repository"], act)
        return json_answer(finished(self._operation(request), {}, "google.protobuf.Empty", _METADATA))

    async def repository_exists(self, request: web.Request) -> None:
        """Raises NameUnknown."""
        await self._record(request)

    # Contents.

    async def docker_images(self, request: web.Request) -> web.Response:
        """A page of versions of all images."""
        record = await self._record(request)

        async def read(after: str, limit: int) -> list[tuple[str, dict[str, Any] | None]]:
            found = await self.contents.docker_images(record.project, record.repository, after, limit)
            return [
                (f"{version.name.image}@{version.digest}", await self.contents.docker_image_json(version))
                for version in found
            ]

        return await _page(request, "dockerImages", read)

    async def docker_image(self, request: web.Request) -> web.Response:
        """One version of one image."""
        image, _, text = unquote(request.match_info["image"]).rpartition("@")
        version = await self.registry.store.version(await self._name(request, image), _digest(text))
        if version is None:
            raise ManifestUnknown(f"There is no image {image}@{text}.")
        return json_answer(await self.contents.docker_image_json(version))

    async def packages(self, request: web.Request) -> web.Response:
        """A page of images."""
        record = await self._record(request)

        async def read(after: str, limit: int) -> list[tuple[str, dict[str, Any] | None]]:
            images = await self.registry.store.images(record.project, record.repository, after, limit)
            named = [ImageName(record.project, record.repository, image) for image in images]
            return [(name.image, await self.contents.package_json(name)) for name in named]

        return await _page(request, "packages", read)

    async def package(self, request: web.Request) -> web.Response:
        """One image."""
        return json_answer(await self.contents.package_json(await self._package(request)))

    async def versions(self, request: web.Request) -> web.Response:
        """A page of an image's versions."""
        name, full = await self._package(request), request.query.get("view", "") == "FULL"

        async def read(after: str, limit: int) -> list[tuple[str, dict[str, Any] | None]]:
            found = await self.contents.versions(name, after, limit)
            return [(version.digest, await self.contents.version_json(version, full=full)) for version in found]

        return await _page(request, "versions", read)

    async def version(self, request: web.Request) -> web.Response:
        """One version."""
        name = await self._package(request)
        version = await self.registry.store.version(name, _digest(unquote(request.match_info["version"])))
        if version is None:
            raise ManifestUnknown(f"There is no such version of {name.image}.")
        return json_answer(await self.contents.version_json(version, full=request.query.get("view", "") == "FULL"))

    async def tags(self, request: web.Request) -> web.Response:
        """A page of an image's tags."""
        name = await self._package(request)
        store = self.registry.store

        async def read(after: str, limit: int) -> list[tuple[str, dict[str, Any] | None]]:
            tags = await store.tags(name, after, limit)
            pointers = [await store.pointer(name, tag) for tag in tags]
            pairs = zip(tags, pointers, strict=True)
            return [(tag, self.contents.tag_json(name, tag, pointer) if pointer else None) for tag, pointer in pairs]

        return await _page(request, "tags", read)

    async def tag(self, request: web.Request) -> web.Response:
        """One tag."""
        name, tag = await self._package(request), request.match_info["tag"]
        pointer = await self.registry.store.pointer(name, tag)
        if pointer is None:
            raise ManifestUnknown(f"There is no tag {tag[:128]} of {name.image}.")
        return json_answer(self.contents.tag_json(name, tag, pointer))

    # What a path names.

    def _here(self, request: web.Request) -> str:
        """The project, where the location is the one served here; raises NotFound."""
        location = request.match_info["location"]
        if location != self.registry.voice.location:
            raise NotFound(f"This registry serves the location {self.registry.voice.location}.")
        return request.match_info["project"]

    async def _record(self, request: web.Request) -> RepositoryRecord:
        return await self.registry.repositories.get(self._here(request), request.match_info["repository"])

    async def _name(self, request: web.Request, image: str) -> ImageName:
        record = await self._record(request)
        if not is_image(image):
            raise NameUnknown("There is no such image.")
        return ImageName(record.project, record.repository, image)

    async def _package(self, request: web.Request) -> ImageName:
        name = await self._name(request, unquote(request.match_info["package"]))
        if not await self.registry.store.has_image(name):
            raise NameUnknown(f"There is no package {name.image}.")
        return name

    def _json(self, record: RepositoryRecord) -> dict[str, Any]:
        return repository_json(self.registry.voice, record)

    def _listed(self, record: RepositoryRecord | None) -> dict[str, Any] | None:
        return self._json(record) if record and record.life else None

    def _operation(self, request: web.Request) -> str:
        place = f"projects/{request.match_info['project']}/locations/{self.registry.voice.location}"
        return f"{place}/operations/{call_of(request).id}"


_Rows = Sequence[tuple[str, dict[str, Any] | None]]


async def _page(request: web.Request, field: str, read: Callable[[str, int], Awaitable[_Rows]]) -> web.Response:
    """A page of a list; what is None went away while it was read."""
    page = page_of(request)
    rows = await read(page.after, page.size + 1)
    shown = [row for _, row in rows[: page.size] if row is not None]
    body: dict[str, Any] = {field: shown} if shown else {}
    if len(rows) > page.size:
        body["nextPageToken"] = next_token(rows[page.size - 1][0])
    return json_answer(body)


def _digest(text: str) -> Digest:
    """A version that is no digest is one that cannot exist."""
    try:
        return names.digest(text)
    except InvalidArgument as error:
        raise ManifestUnknown("There is no such version.") from error
