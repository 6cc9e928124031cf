"""Every path under `/v1/`: Artifact Registry's API, as far as it goes here."""

from services.registry.annotating import Annotating
from services.registry.api.google.contents import Contents
from services.registry.api.google.files import FileFace
from services.registry.api.google.images import ImageFace
from services.registry.api.google.operations import Operations
from services.registry.api.google.packages import PackageFace
from services.registry.api.google.places import METHOD, REPOSITORY, Places
from services.registry.api.google.project import ProjectFace
from services.registry.api.google.repositories import RepositoryFace
from services.registry.api.google.tags import TagFace
from services.registry.api.google.versions import VersionFace
from services.registry.project_settings import ProjectSettings
from services.registry.registry import Registry
from shared.blobs import Blobs
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.routes import Route


def google_routes(registry: Registry, policies: Policies, blobs: Blobs, key: bytes) -> list[Route]:
    """All routes, in an order in which none hides another; `key` signs the names of operations."""
    places, contents = Places(registry), Contents(registry.store, registry.voice)
    steps = registry.repositories.steps
    annotating = Annotating(registry.store, steps, registry.voice)
    operations = Operations(places, key)
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
        *PackageFace(places, operations, contents, annotating, registry.repositories.emptying).routes(),
        *FileFace(places, blobs).routes(),
    ]
