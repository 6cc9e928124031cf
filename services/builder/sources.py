"""Source archives: taken in as a stream, kept by digest, so that a build's record pins its exact source."""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator

from services.builder.errors import SourceInvalid
from services.builder.workspace import source_object
from shared.blobs import Blobs
from shared.clock import Ids


async def take_source(blobs: Blobs, ids: Ids, project: str, body: AsyncIterable[bytes], limit: int) -> str:
    """Store a source archive; returns the object's name. Raises SourceInvalid when it is empty or over `limit`."""
    upload = f"builder-{ids.new()}"
    running = hashlib.sha256()
    size = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal size
        async for piece in body:
            size += len(piece)
            if size > limit:
                raise SourceInvalid(f"the source is over {limit} bytes")
            running.update(piece)
            yield piece
        if not size:
            raise SourceInvalid("the source is empty")

    await blobs.stage(upload)
    try:
        await blobs.append(upload, 0, counted())
        name = source_object(project, running.hexdigest())
        await blobs.commit(upload, name)
    except BaseException:
        await blobs.abandon(upload)
        raise
    return name
