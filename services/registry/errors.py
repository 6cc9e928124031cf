"""What can go wrong in the registry, in the words of the field; how an answer says it is the faces' affair."""

from collections.abc import Sequence

from shared.digest import Digest
from shared.http.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    Unimplemented,
)


class NameInvalid(InvalidArgument):
    """The name is not one of project, repository and image."""


class NameUnknown(NotFound):
    """There is no repository or image of that name."""


class TagInvalid(InvalidArgument):
    """The tag breaks the grammar."""


class DigestInvalid(InvalidArgument):
    """The digest is malformed, or is not that of the bytes that came."""


class SizeInvalid(InvalidArgument):
    """More or fewer bytes came than were announced."""


class PageInvalid(InvalidArgument):
    """The page that is asked for makes no sense."""


class CascadeInvalid(InvalidArgument):
    """What is to be deleted along is none of the things that can be."""


class ManifestUnknown(NotFound):
    """There is no manifest of that tag or digest."""


class ManifestInvalid(InvalidArgument):
    """The manifest cannot be understood, or contradicts itself."""


class ManifestTooLarge(PayloadTooLarge):
    """The manifest is over the limit."""


class ReferencesUnknown(NotFound):
    """The manifest names blobs or manifests that the repository does not hold."""

    def __init__(self, missing: Sequence[Digest]) -> None:
        """`missing` in the manifest's order."""
        super().__init__(f"the repository does not hold {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}")
        self.missing = tuple(missing)


class BlobUnknown(NotFound):
    """The repository holds no such blob."""


class UploadUnknown(NotFound):
    """There is no such upload: it was finished, cancelled, or has expired."""


class UploadInvalid(InvalidArgument):
    """The upload cannot go on like this."""


class QuotaExceeded(FailedPrecondition):
    """The repository or the project would hold more bytes than it may."""


class UploadTooLarge(PayloadTooLarge):
    """The blob is over the limit."""


class ChunkOutOfOrder(FailedPrecondition):
    """The chunk does not begin where the upload stands; `offset` is where it stands."""

    def __init__(self, offset: int) -> None:
        """`offset` in bytes."""
        super().__init__(f"the upload stands at byte {offset}; the next chunk must begin there")
        self.offset = offset


class StillHeld(FailedPrecondition):
    """Something that exists still refers to this: delete that first."""


class TagFixed(FailedPrecondition):
    """A rule of the repository keeps the tag as it is."""


class TagOverwriteRefused(TagFixed):
    """The tag may not come to point at something else."""


class TagDeletionRefused(TagFixed):
    """The tag may not be deleted, nor what it points at."""


class RepositoryExists(AlreadyExists):
    """There is a repository of that name already."""


class TagExists(AlreadyExists):
    """There is a tag of that name already."""


class AttachmentExists(AlreadyExists):
    """There is an attachment of that id already."""


class RuleUnknown(NotFound):
    """The repository has no such rule for downloads."""


class RuleExists(AlreadyExists):
    """There is a rule of that name, or for that package, already."""


class RulesTooMany(FailedPrecondition):
    """The repository has as many rules as it may have."""


class DownloadDenied(PermissionDenied):
    """A rule of the repository denies the download."""

    def __init__(self, what: str, rule: str) -> None:
        """`rule` by its full name."""
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "DOWNLOAD_DENIED_BY_RULE",
            "domain": "artifactregistry.googleapis.com",
            "metadata": {"rule": rule},
        }
        super().__init__(f"the download of {what} is denied by the rule {rule}", info)


class Unsupported(Unimplemented):
    """The registry does not do this, and says what to do instead."""
