"""The registry as its faces and handlers see it: the parts of the field, put together in `app`."""

from dataclasses import dataclass

from services.registry.acts import Act
from services.registry.downloads import Downloads
from services.registry.errors import NameUnknown
from services.registry.names import ImageName
from services.registry.pulls import Pulls
from services.registry.repositories import Repositories
from services.registry.repository import Repository, Standard
from services.registry.settings import RegistrySettings
from services.registry.store import Store
from services.registry.uploads import Uploads
from services.registry.voice import Voice
from shared.http.call import Call
from shared.identity.directory import Directory

CREATE_ON_PUSH = "artifactregistry.repositories.createOnPush"


@dataclass(frozen=True)
class Registry:
    """Everything that a face needs."""

    store: Store
    repositories: Repositories
    downloads: Downloads
    standard: Standard
    uploads: Uploads
    pulls: Pulls
    voice: Voice
    directory: Directory
    settings: RegistrySettings

    def repository(self, name: ImageName) -> Repository:
        """The repository that an image is in, as one thing with all that is wrapped around it."""
        del name  # every repository is a standard one
        return self.standard

    def resource(self, name: ImageName) -> str:
        """The full resource name of an image's repository."""
        return self.voice.resource(name.project, name.repository)

    def act(self, call: Call, project: str) -> Act:
        """What a caller does: the audit entry is the call's own."""
        return Act(
            call.cause,
            lambda deed: [
                call.activity(
                    project=project,
                    method=deed.method,
                    resource=deed.resource,
                    permission=deed.permission,
                    request=deed.request or None,
                    location=self.voice.location,
                )
            ],
        )

    async def open_for_push(self, call: Call, name: ImageName) -> str:
        """The repository's life; a new one is made where there is none and the caller may, and not told.

        Raises NameUnknown, PermissionDenied.
        """
        life = await self.store.life(name.project, name.repository)
        if life is not None:
            return life
        if not self.settings.create_on_push or self.directory.project(name.project) is None:
            raise NameUnknown(f"there is no repository {name.project}/{name.repository}: create it first")
        await call.require(CREATE_ON_PUSH, self.resource(name))
        await self.repositories.ensure(name.project, name.repository, self.act(call, name.project).part("create"))
        return ""
