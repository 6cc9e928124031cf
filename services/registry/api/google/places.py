"""What a path under `/v1/` names, and what every kind of thing there has in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from aiohttp import web

from services.registry import names
from services.registry.acts import Act, Deed
from services.registry.errors import ManifestUnknown, NameUnknown
from services.registry.names import ImageName, is_image
from services.registry.records import Pointer, RepositoryRecord, Version
from services.registry.registry import Registry
from shared.digest import Digest
from shared.events import Event
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, NotFound
from shared.http.routes import Audit, Handler, Route

LOCATION = "/v1/projects/{project}/locations/{location}"
REPOSITORY = f"{LOCATION}/repositories/{{repository:[^/:]+}}"
PACKAGE = f"{REPOSITORY}/packages/{{package:[^/:]+}}"
METHOD = "google.devtools.artifactregistry.v1.ArtifactRegistry"
TYPE = "google.devtools.artifactregistry.v1"


def read(path: str, handler: Handler, permission: str, method: str) -> Route:
    """A route that changes nothing."""
    return Route("GET", path, handler, f"artifactregistry.{permission}", None, f"{METHOD}.{method}", Audit.ADMIN_READ)


def write(verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
    """A route that changes something."""
    right = f"artifactregistry.{permission}"
    return Route(verb, path, handler, right, None, f"{METHOD}.{method}", Audit.ADMIN_WRITE)


@dataclass(frozen=True)
class Places:
    """Finds what a request's path names."""

    registry: Registry

    def here(self, request: web.Request) -> str:
        """The project, where the location is the one served here; raises NotFound."""
        location = request.match_info["location"]
        if location != self.registry.voice.location:
            raise NotFound(self._elsewhere(location))
        return request.match_info["project"]

    def _elsewhere(self, location: str) -> str:
        """Not a redirect: clients drop their token on the way to another host, and gateways can look into the path."""
        voice = self.registry.voice
        if location in voice.hosts:
            return f"{location} is served by {voice.hosts[location]}; this registry serves {voice.location}."
        return f"This registry serves the location {voice.location}."

    async def repository(self, request: web.Request) -> RepositoryRecord:
        """The repository; raises NameUnknown."""
        return await self.registry.repositories.get(self.here(request), request.match_info["repository"])

    async def image(self, request: web.Request, image: str) -> ImageName:
        """An image of that name in the repository, which need not have a version; raises NameUnknown."""
        record = await self.repository(request)
        if not is_image(image):
            raise NameUnknown("There is no such image.")
        return ImageName(record.project, record.repository, image)

    async def package(self, request: web.Request) -> ImageName:
        """The image that a package is; raises NameUnknown."""
        name = await self.image(request, unquote(request.match_info["package"]))
        if not await self.registry.store.has_image(name):
            raise NameUnknown(f"There is no package {name.image}.")
        return name

    async def version(self, request: web.Request) -> Version:
        """A version of a package; raises NameUnknown, ManifestUnknown."""
        return await self.version_of(await self.package(request), unquote(request.match_info["version"]))

    async def version_of(self, name: ImageName, text: str) -> Version:
        """A version by its digest; raises ManifestUnknown."""
        found = await self.registry.store.version(name, digest_of(text))
        if found is None:
            raise ManifestUnknown(f"There is no such version of {name.image}.")
        return found

    async def pointer(self, name: ImageName, tag: str) -> Pointer:
        """What a tag points at; raises ManifestUnknown."""
        found = await self.registry.store.pointer(name, tag)
        if found is None:
            raise ManifestUnknown(f"There is no tag {tag[:128]} of {name.image}.")
        return found

    def act(self, request: web.Request, method: str, permission: str) -> Act:
        """What a caller does through this API: on record as the API's own method, whatever it does inside."""
        act = self.registry.act(call_of(request), request.match_info["project"])

        def witness(deed: Deed) -> Sequence[Event]:
            return act.witness(replace(deed, method=f"{METHOD}.{method}", permission=f"artifactregistry.{permission}"))

        return replace(act, witness=witness)

    def repository_name(self, name: ImageName) -> str:
        """The full name of an image's repository."""
        return self.registry.voice.resource(name.project, name.repository)

    def package_name(self, name: ImageName) -> str:
        """The full name of a package."""
        return f"{self.repository_name(name)}/packages/{quote(name.image, safe='')}"


def digest_of(text: str) -> Digest:
    """A version that is no digest is one that cannot exist; raises ManifestUnknown."""
    try:
        return names.digest(text)
    except InvalidArgument as error:
        raise ManifestUnknown("There is no such version.") from error
