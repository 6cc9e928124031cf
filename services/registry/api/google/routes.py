"""Every path under `/v1/`: Artifact Registry's API, as far as it goes here."""

import hmac

from services.registry.annotating import Annotating
from services.registry.api.google.attachments import ATTACHMENT, AttachmentFace
from services.registry.api.google.contents import Contents
from services.registry.api.google.files import FileFace
from services.registry.api.google.images import ImageFace
from services.registry.api.google.operations import Operations, Show, Shown
from services.registry.api.google.packages import PackageFace
from services.registry.api.google.places import METHOD, REPOSITORY, TYPE, Places
from services.registry.api.google.project import ProjectFace
from services.registry.api.google.repositories import RepositoryFace
from services.registry.api.google.rules import RuleFace
from services.registry.api.google.shelves import AttachmentShelf, FileShelf
from services.registry.api.google.tags import TagFace
from services.registry.api.google.uploads import FILE, FileUploadFace
from services.registry.api.google.versions import VersionFace
from services.registry.api.sending import Sending
from services.registry.attaching import Attaching
from services.registry.attachments import Attachments
from services.registry.filing import Filing
from services.registry.project_settings import ProjectSettings
from services.registry.registry import Registry
from services.registry.rules import Rules
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.routes import Route


def google_routes(registry: Registry, policies: Policies, sending: Sending, key: bytes) -> list[Route]:
    """All routes, in an order in which none hides another; `key` signs names of operations and uploads' addresses."""
    places, standard = Places(registry), registry.standard
    contents = Contents(registry.store, registry.voice, standard.reading)
    steps = registry.repositories.steps
    annotating = Annotating(registry.store, steps, registry.voice)
    attaching = Attaching(registry.store, standard.holdings, standard.pushing, sending.blobs)
    attachments = Attachments(registry.store, standard.reading, attaching, standard.pushing)
    files, shelf = FileShelf(places), AttachmentShelf(places, attachments)
    filing = Filing(registry.store, steps, registry.uploads, registry.voice)
    operations = Operations(places, key, {FILE: _shows(files, "File"), ATTACHMENT: _shows(shelf, "Attachment")})
    repositories = RepositoryFace(places, operations)
    guarded = Guarded(REPOSITORY, "artifactregistry.repositories", METHOD, repositories.exists)
    return [
        *iam_routes(policies, guarded),
        *operations.routes(),
        *repositories.routes(),
        *ProjectFace(places, ProjectSettings(registry.store, steps, registry.voice)).routes(),
        *ImageFace(places, contents).routes(),
        *VersionFace(places, operations, contents, annotating).routes(),
        *TagFace(places, contents).routes(),
        *RuleFace(places, Rules(registry.repositories, steps, registry.voice)).routes(),
        *PackageFace(places, operations, contents, annotating, registry.repositories.emptying).routes(),
        *AttachmentFace(places, operations, shelf, attachments).routes(),
        *FileUploadFace(places, operations, files, filing, hmac.digest(key, b"files", "sha256")).routes(),
        *FileFace(places, operations, files, filing, sending).routes(),
    ]


def _shows(shelf: FileShelf | AttachmentShelf, kind: str) -> Show:
    async def show(project: str, repository: str, thing: str) -> Shown:
        return await shelf.one(project, repository, thing), f"{TYPE}.{kind}"

    return show
