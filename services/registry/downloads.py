"""Whether something may be downloaded, as the repository's rules say: asked of state at each download, never cached.

A manifest is judged by all its tags and its digest, whichever of them it is asked for by. What belongs to something
else goes with it: a manifest without a tag of its own with the indexes that list it, a blob with the manifests that
refer to it. So what may be downloaded may be downloaded whole.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from services.registry.download_rules import FREE, Rulebook, Ruling, rulebook
from services.registry.errors import DownloadDenied
from services.registry.holdings import Held
from services.registry.names import ImageName
from services.registry.store import Store
from services.registry.voice import Voice
from shared.digest import Digest
from shared.http.call import Call

MOST_JUDGED: Final = 2000
"""Manifests that are looked at for one download; where none of so many may be downloaded, it is denied."""
_PAGE = 100


@dataclass(frozen=True)
class Downloads:
    """Keeps to the rules for downloads."""

    store: Store
    voice: Voice

    async def require_manifest(self, call: Call, name: ImageName, digest: Digest) -> None:
        """Raise DownloadDenied, noted, where a rule does not let this manifest be downloaded."""
        book = await self._book(name)
        if book is not FREE:
            ruling = await _Judge(self.store, book).manifest(name, digest)
            self._keep_to(call, name, ruling, f"{name.image}@{digest}")

    async def require_blob(self, call: Call, name: ImageName, held: Held) -> None:
        """The same for a blob; without an image's name for one of any image."""
        book = rulebook(held.rules)
        if book is not FREE:
            self._keep_to(call, name, await _Judge(self.store, book).blob(name, held.digest), held.digest)

    async def may_blob(self, name: ImageName, digest: Digest) -> bool:
        """Whether a blob may be downloaded from the repository of that image."""
        book = await self._book(name)
        return book is FREE or (await _Judge(self.store, book).blob(name, digest)).allowed

    async def _book(self, name: ImageName) -> Rulebook:
        return rulebook(await self.store.download_rules(name.project, name.repository))

    def _keep_to(self, call: Call, name: ImageName, ruling: Ruling, what: str) -> None:
        if not ruling.allowed:
            repository = self.voice.resource(name.project, name.repository)
            call.refuse(DownloadDenied(what, f"{repository}/rules/{ruling.rule}"))


@dataclass
class _Judge:
    """Decides on one download."""

    store: Store
    book: Rulebook
    judged: dict[str, Ruling] = field(default_factory=dict[str, Ruling])
    """By `image@digest`; a manifest that is being judged counts as denied, so that no circle is gone round."""

    async def manifest(self, name: ImageName, digest: str) -> Ruling:
        """What is said of a manifest."""
        place = f"{name.image}@{digest}"
        if place not in self.judged:
            own = self.book.ruling(name.image)
            if self.book.looks_at_versions(name.image):
                tags = [tag async for tag in _paged(lambda after: self.store.tags_of(name, digest, _PAGE, after))]
                own = self.book.ruling(name.image, digest, tuple(tags))
                self.judged[place] = Ruling(allowed=False, rule=own.rule)
                if not self.book.names(digest) and not (tags and (own.allowed or own.of_its_own)):
                    own = await self._with_parents(name, digest, own)
            self.judged[place] = own
        return self.judged[place]

    async def blob(self, name: ImageName, digest: Digest) -> Ruling:
        """What is said of a blob: it goes with any manifest that refers to it, those of the image asked first."""
        found: Ruling | None = None
        async for holder in self._holders(name, digest):
            image, _, manifest = holder.rpartition("@")
            found = await self.manifest(ImageName(name.project, name.repository, image), manifest)
            if found.allowed or len(self.judged) >= MOST_JUDGED:
                return found
        return found or self.book.ruling(name.image)

    async def _with_parents(self, name: ImageName, digest: str, own: Ruling) -> Ruling:
        """What an index lists goes with it; what none lists is as it is by itself."""
        async for parent in _paged(lambda after: self.store.parents(name, digest, _PAGE, after)):
            if len(self.judged) >= MOST_JUDGED:
                break
            own = await self.manifest(name, parent)
            if own.allowed:
                break
        return own

    async def _holders(self, name: ImageName, digest: Digest) -> AsyncIterator[str]:
        own = f"{name.image}@"
        place = (name.project, name.repository, digest)
        async for holder in _paged(lambda after: self.store.blob_holders(*place, _PAGE, after=after, prefix=own)):
            yield holder
        async for holder in _paged(lambda after: self.store.blob_holders(*place, _PAGE, after=after)):
            if not holder.startswith(own):
                yield holder


async def _paged(read: Callable[[str], Awaitable[list[str]]]) -> AsyncIterator[str]:
    after = ""
    while page := await read(after):
        for member in page:
            yield member
        after = page[-1]
