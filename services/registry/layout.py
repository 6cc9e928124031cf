"""Where everything lies in state: one place that writes the keys, so that a reader finds them all.

Everything of a project is in the project's partition, so that one atomic step can change it together.
"""

from dataclasses import dataclass

from services.registry.names import ImageName
from shared.names import partition_of
from shared.state import Keys

ALL = "*"
"""In the place of a repository: all of the project."""
BLOBS, MANIFESTS, LOOSE = "blobs", "manifests", "loose"
"""What may be due: bytes of a blob or of a manifest, or that a repository holds a blob."""


def counter(project: str, repository: str) -> str:
    """The generation counter of a repository; it outlives the repository."""
    return f"{project}/{repository}"


def counter_of(full_name: str) -> str:
    """The same, by the repository's full name `projects/P/locations/L/repositories/R`."""
    parts = full_name.split("/")
    return counter(parts[1], parts[5])


@dataclass(frozen=True)
class Layout:
    """The keys of the registry's records."""

    keys: Keys

    # Repositories.

    def repositories(self, project: str) -> str:
        """Index: ids of the project's repositories."""
        return self.keys.of(project, "repositories")

    def repository(self, project: str, repository: str) -> str:
        """Hash: `settings` (JSON); `open`, which names this life of it and goes when deletion begins.

        Perhaps `tag_rules`, `download_rules` and `quota`, which stand in the settings, too.
        """
        return self.keys.of(project, "repository", repository)

    def ruled(self, project: str, repository: str) -> str:
        """Value, as long as the repository has rules for downloads."""
        return self.keys.of(project, "ruled", repository)

    def settings(self, project: str) -> str:
        """Hash: `vpcsc`, what is set for all repositories of the project."""
        return self.keys.of(project, "projectsettings")

    def deletions(self, partition: str) -> str:
        """Index: `project/repository` whose deletion was begun."""
        return self.keys.at(partition, "deletions")

    def deletions_of(self, project: str) -> str:
        """The same, by project."""
        return self.deletions(partition_of(project))

    def cascades(self, partition: str) -> str:
        """Index: `project/repository/image@digest` that have gone, and that something is to follow."""
        return self.keys.at(partition, "cascades")

    def cascades_of(self, project: str) -> str:
        """The same, by project."""
        return self.cascades(partition_of(project))

    # Snapshots and rebuilding.

    def snapshots(self) -> str:
        """Leased by the replica that takes a snapshot."""
        return self.keys.at("00", "snapshots")

    def rebuilding(self) -> str:
        """Hash, as long as a rebuild is under way; leased by the one that does it."""
        return self.keys.at("00", "rebuilding")

    # Blobs of a repository.

    def blobs(self, project: str, repository: str) -> str:
        """Hash: digest -> size of every blob that the repository holds."""
        return self.keys.of(project, "blobs", repository)

    def blob_list(self, project: str, repository: str) -> str:
        """Index: the same digests, for paging."""
        return self.keys.of(project, "bloblist", repository)

    def files(self, project: str, repository: str) -> str:
        """Hash: digest -> what somebody noted of a blob that the repository holds, a `FileNote`."""
        return self.keys.of(project, "files", repository)

    def holders(self, project: str, repository: str, digest: str) -> str:
        """Index: `image@digest` of the manifests that refer to the blob."""
        return self.keys.of(project, "holders", repository, digest)

    def uses(self, project: str, digest: str, kind: str = BLOBS) -> str:
        """Index: the repositories of the project that hold the blob, or `repository/image` that have the manifest."""
        return self.keys.of(project, "uses" if kind == BLOBS else "manifestuses", digest)

    def cancelled(self, project: str, upload: str) -> str:
        """Value, until the upload's address expires: it was cancelled."""
        return self.keys.of(project, "cancelled", upload)

    def vouched(self, project: str, upload: str) -> str:
        """Value, until the upload's address expires: `digest size`, what its staged bytes were found to be."""
        return self.keys.of(project, "vouched", upload)

    def attachments(self, project: str, repository: str) -> str:
        """Index: ids of the manifests that have a subject."""
        return self.keys.of(project, "attachments", repository)

    def attachment_ids(self, project: str, repository: str) -> str:
        """Hash: id -> `image@digest`, where the id was chosen by somebody and does not tell."""
        return self.keys.of(project, "attachmentids", repository)

    # Bytes.

    def sizes(self, project: str) -> str:
        """Hash: repository -> bytes that it holds, and `*` -> the sum of them."""
        return self.keys.of(project, "sizes")

    def neared(self, project: str) -> str:
        """Hash: repository, or `*`, -> the line of its quota that was crossed last, in percent."""
        return self.keys.of(project, "neared")

    def counted(self, project: str) -> str:
        """Index: the repositories of which all is counted: `sizes`, who uses manifests, and what is due."""
        return self.keys.of(project, "counted")

    def due(self, partition: str) -> str:
        """Index by time: what may be cleared from then on, if nothing uses it.

        `loose/project/repository/digest`, `blobs/project/digest`, `manifests/project/digest`.
        """
        return self.keys.at(partition, "due")

    def due_of(self, project: str) -> str:
        """The same, by project."""
        return self.due(partition_of(project))

    def clearing(self, project: str, kind: str, digest: str) -> str:
        """Value, for a while: the bytes are being cleared (`going ...`) or have been (`gone ...`)."""
        return self.keys.of(project, "clearing", kind, digest)

    def collector(self, partition: str) -> str:
        """Leased by the replica that clears what is due in the partition."""
        return self.keys.at(partition, "collector")

    def search(self) -> str:
        """Hash: how far the search for bytes that nothing ever held has come. Leased by the replica that searches."""
        return self.keys.at("00", "search")

    # Images.

    def images(self, project: str, repository: str) -> str:
        """Index: names of the images that have a version."""
        return self.keys.of(project, "images", repository)

    def image(self, name: ImageName) -> str:
        """Hash: `versions`, how many there are; `created` and `updated`, the times of the first and last push."""
        return self._of(name, "image")

    def versions(self, name: ImageName) -> str:
        """Index: digests of the image's manifests."""
        return self._of(name, "versions")

    def version(self, name: ImageName, digest: str) -> str:
        """Hash: `media_type`, `facts` (JSON), `uploaded`, `updated`, `generation` of one manifest.

        Perhaps `annotations` (JSON), and `attachment`, the id that was chosen for it.
        """
        return self._of(name, "version", digest)

    def tags(self, name: ImageName) -> str:
        """Index: the image's tags."""
        return self._of(name, "tags")

    def tag(self, name: ImageName, tag: str) -> str:
        """Value: what the tag points at, a `Pointer`."""
        return self._of(name, "tag", tag)

    def tags_of(self, name: ImageName, digest: str) -> str:
        """Index: the tags that point at a digest."""
        return self._of(name, "tagsof", digest)

    def cascade(self, name: ImageName, digest: str) -> str:
        """Hash: what is to follow a manifest that has gone; `generation`, `reach`, `children` (JSON)."""
        return self._of(name, "cascade", digest)

    def parents(self, name: ImageName, digest: str) -> str:
        """Index: digests of the indexes that list this manifest."""
        return self._of(name, "parents", digest)

    def referrers(self, name: ImageName, subject: str) -> str:
        """Index: digests of the manifests whose subject this is, which need not exist."""
        return self._of(name, "referrers", subject)

    def _of(self, name: ImageName, kind: str, *parts: str) -> str:
        return self.keys.of(name.project, kind, name.repository, name.image, *parts)
