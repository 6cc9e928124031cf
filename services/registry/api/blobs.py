"""Blobs over HTTP: looked at, read and dropped."""

from dataclasses import dataclass

from aiohttp import hdrs, web

from services.registry import names
from services.registry.api.asked import image, require_scope
from services.registry.api.oci_errors import VERSION
from services.registry.api.sending import Sending
from services.registry.redirects import Redirects
from services.registry.registry import Registry
from shared.http.call import call_of


@dataclass(frozen=True)
class BlobFace:
    """Answers for `/v2/NAME/blobs/DIGEST`."""

    registry: Registry
    sending: Sending
    redirects: Redirects

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The blob, or for HEAD what would come."""
        name = image(request)
        require_scope(call_of(request), name, "pull")
        digest, promised = names.digest(request.match_info["digest"]), request.method == "HEAD"
        held = await self.registry.repository(name).blob(name, digest, promised=promised)
        if not promised:
            await self.registry.downloads.require_blob(call_of(request), name, held)
        headers = {**VERSION, "Docker-Content-Digest": held.digest}
        if request.method == "GET" and (address := await self.redirects.address(name, held)) is not None:
            return web.Response(status=307, headers={**headers, hdrs.LOCATION: address, hdrs.CACHE_CONTROL: "no-store"})
        return await self.sending.send(request, held, headers)

    async def delete(self, request: web.Request) -> web.Response:
        """Let the repository forget a blob that no manifest refers to."""
        name, call = image(request), call_of(request)
        require_scope(call, name, "delete")
        digest = names.digest(request.match_info["digest"])
        await self.registry.repository(name).drop(name, digest, self.registry.act(call, name.project))
        return web.Response(status=202, headers={**VERSION, "Docker-Content-Digest": digest})
