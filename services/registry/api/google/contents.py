"""What is in a repository as Artifact Registry's v1 API shows it: docker images, packages, versions, tags."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from services.registry.manifests import Manifest
from services.registry.media_types import INDEXES
from services.registry.names import ImageName
from services.registry.reading import Reading
from services.registry.records import Pointer, Version, listed
from services.registry.store import Store
from services.registry.voice import Voice


@dataclass(frozen=True)
class Contents:
    """Reads pages of a repository's contents from its indexes."""

    store: Store
    voice: Voice
    reading: Reading

    async def docker_images(self, project: str, repository: str, after: str, limit: int) -> list[Version]:
        """A page of versions behind `image@digest`, by image and then by digest."""
        found: list[Version] = []
        image, _, digest = after.partition("@")
        if image:
            found += await self.versions(ImageName(project, repository, image), digest, limit)
        while len(found) < limit and (images := await self.store.images(project, repository, image, 50)):
            for image in images:
                found += await self.versions(ImageName(project, repository, image), "", limit - len(found))
                if len(found) >= limit:
                    break
        return found

    async def versions(self, name: ImageName, after: str, limit: int) -> list[Version]:
        """A page of an image's versions."""
        if limit <= 0:
            return []
        digests = await self.store.versions(name, after, limit)
        found = [await self.store.version(name, digest) for digest in digests]
        return [version for version in found if version is not None]

    async def docker_image_json(self, version: Version) -> dict[str, Any]:
        """A DockerImage."""
        name, facts = version.name, version.facts
        body: dict[str, Any] = {
            "name": f"{self._repository(name)}/dockerImages/{quote(name.image, safe='')}@{version.digest}",
            "uri": f"{self.voice.address(name)}@{version.digest}",
            "tags": await self.store.tags_of(name, version.digest),
            "imageSizeBytes": str(facts.total),
            "uploadTime": version.uploaded,
            "updateTime": version.updated,
            "mediaType": version.media_type,
        }
        return body | await self._more(version)

    async def package_json(self, name: ImageName) -> dict[str, Any]:
        """A Package."""
        created, updated = await self.store.image_times(name)
        annotations = await self.store.image_annotations(name)
        body: dict[str, Any] = {
            "name": self._package(name),
            "displayName": name.image,
            "createTime": created,
            "updateTime": updated,
        }
        return body | ({"annotations": annotations} if annotations else {})

    async def version_json(self, version: Version, *, full: bool) -> dict[str, Any]:
        """A Version; `full` with the tags that point at it."""
        name = version.name
        body: dict[str, Any] = {
            "name": f"{self._package(name)}/versions/{version.digest}",
            "createTime": version.uploaded,
            "updateTime": version.updated,
            "metadata": {
                "name": f"{self._repository(name)}/dockerImages/{quote(name.image, safe='')}@{version.digest}",
                "imageSizeBytes": str(version.facts.total),
                "mediaType": version.media_type,
                **await self._more(version),
            },
        }
        if version.annotations:
            body["annotations"] = version.annotations
        if full:
            tags = await self.store.tags_of(name, version.digest)
            body["relatedTags"] = [self._tag_json(name, tag, version.digest) for tag in tags]
        return body

    async def _more(self, version: Version) -> dict[str, Any]:
        """What not every image has."""
        facts, manifests = version.facts, version.facts.manifests
        if manifests is None and version.media_type in INDEXES:
            content = await self.reading.contents.of(version.name.project, version.digest)
            manifests = tuple(map(listed, Manifest.parse(content, version.media_type, version.digest).children))
        told = {"artifactType": facts.artifact_type, "buildTime": facts.built, "imageManifests": manifests}
        return {name: value for name, value in told.items() if value}

    def tag_json(self, name: ImageName, tag: str, pointer: Pointer) -> dict[str, Any]:
        """A Tag."""
        return self._tag_json(name, tag, pointer.digest)

    def _tag_json(self, name: ImageName, tag: str, digest: str) -> dict[str, Any]:
        package = self._package(name)
        return {"name": f"{package}/tags/{tag}", "version": f"{package}/versions/{digest}"}

    def _repository(self, name: ImageName) -> str:
        return self.voice.resource(name.project, name.repository)

    def _package(self, name: ImageName) -> str:
        return f"{self._repository(name)}/packages/{quote(name.image, safe='')}"
