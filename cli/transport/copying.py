"""Copies an image: all blobs several at a time, then the manifests from the leaves up, the named one last."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from cli.exits import Failed, Missing
from cli.transport.content import Descriptor, Manifest, Source, Target, checked
from shared.digest import Digest

_AT_ONCE = 4
_DEEPEST = 4
_TRIES = 3

Progress = Callable[[int], object]
"""Told how many more bytes were copied."""


def copy(source: Source, target: Target, platform: str = "", progress: Progress = lambda _: None) -> Digest:
    """Copy the named image, or one platform of it; returns the digest of what the target now names."""
    topmost = source.manifest(None)
    if platform and topmost.is_index:
        topmost = source.manifest(choose(topmost, platform).digest)
    tree = list(_from_leaves(source, topmost))
    blobs = {blob.digest: blob for manifest in tree for blob in manifest.blobs()}
    _copy_blobs(source, target, list(blobs.values()), progress)
    for manifest in tree[:-1]:
        target.put_manifest(manifest, topmost=False)
    target.put_manifest(topmost, topmost=True)
    target.finish()
    return topmost.digest


def choose(index: Manifest, platform: str) -> Descriptor:
    """The entry for `os/architecture[/variant]`; raises Missing with what there is."""
    children = index.children()
    exact = [child for child in children if child.platform == platform]
    close = [child for child in children if child.platform.startswith(f"{platform}/")]
    if not (fitting := exact or close):
        there = ", ".join(sorted({child.platform for child in children if child.platform})) or "none"
        raise Missing(f"the image has no platform {platform}; it has {there}")
    return fitting[0]


def _from_leaves(source: Source, manifest: Manifest, depth: int = 0) -> Iterator[Manifest]:
    """Everything below, each once, then itself."""
    if depth > _DEEPEST:
        raise Failed("indexes lie within indexes too deep")
    seen: set[Digest] = set()
    for child in manifest.children():
        for below in _from_leaves(source, source.manifest(child.digest), depth + 1):
            if below.digest not in seen:
                seen.add(below.digest)
                yield below
    yield manifest


def _copy_blobs(source: Source, target: Target, blobs: list[Descriptor], progress: Progress) -> None:
    """The first failure counts; copies under way finish, no further one begins."""
    with ThreadPoolExecutor(_AT_ONCE) as together:
        running = [together.submit(_copy_blob, source, target, blob, progress) for blob in blobs]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        for one in running:
            one.cancel()
        for one in done:
            one.result()


def _copy_blob(source: Source, target: Target, blob: Descriptor, progress: Progress) -> None:
    if target.has(blob):
        progress(blob.size)
        return
    for attempt in range(1, _TRIES + 1):
        try:
            with source.blob(blob) as pieces:
                target.put_blob(blob, _counted(checked(blob, pieces), progress))
        except Failed as error:
            if attempt == _TRIES or type(error) is not Failed:
                raise
        else:
            return


def _counted(pieces: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        progress(len(piece))
