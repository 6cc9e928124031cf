"""Manifests over HTTP: exact bytes in and out."""

from dataclasses import dataclass

from aiohttp import hdrs, web

from services.registry import media_types, names
from services.registry.api.asked import image, require_scope, written
from services.registry.api.oci_errors import VERSION
from services.registry.cascading import ALONE, Reach
from services.registry.errors import (
    CascadeInvalid,
    DigestInvalid,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    TagInvalid,
)
from services.registry.manifests import Manifest
from services.registry.names import Reference, Tag
from services.registry.reading import Stored
from services.registry.registry import Registry
from shared.digest import Digest
from shared.http.bodies import body_of
from shared.http.call import call_of

MOST_TAGS = 50
"""Tags that one push may set beside a digest."""


@dataclass(frozen=True)
class ManifestFace:
    """Answers for `/v2/NAME/manifests/REFERENCE`."""

    registry: Registry

    async def get(self, request: web.Request) -> web.Response:
        """The manifest, whatever the client says it accepts: another form would have another digest.

        HEAD is no download: clients ask so before they push.
        """
        name, call = image(request), call_of(request)
        require_scope(call, name, "pull")
        stored = await self.registry.repository(name).manifest(name, _asked(request))
        if request.method == "GET":
            await self.registry.downloads.require_manifest(call, name, stored.digest)
        if _knows_already(request, stored):
            self.registry.pulls.look(name, stored.digest)
            return web.Response(status=304, headers=headers_of(stored.digest))
        if request.method == "GET":
            self.registry.pulls.note(name, stored.digest)
        else:
            self.registry.pulls.look(name, stored.digest)
        return web.Response(
            body=stored.content, headers={**headers_of(stored.digest), hdrs.CONTENT_TYPE: stored.media_type}
        )

    async def put(self, request: web.Request) -> web.Response:
        """Take a manifest; what it refers to must be there."""
        name, call = image(request), call_of(request)
        require_scope(call, name, "push")
        reference = names.reference(request.match_info["reference"])
        tags = _tags(request, reference)
        content = await body_of(request, self.registry.settings.manifest_bytes)
        expected = reference if isinstance(reference, Digest) else None
        manifest = Manifest.parse(content, request.headers.get(hdrs.CONTENT_TYPE, ""), expected)
        repository, act = self.registry.repository(name), self.registry.act(call, name.project)
        try:
            await repository.push(name, manifest, tags, act)
        except NameUnknown:
            await self.registry.open_for_push(call, name)
            await repository.push(name, manifest, tags, act)
        return web.Response(status=201, headers=_taken(request, manifest, tags if expected else ()))

    async def delete(self, request: web.Request) -> web.Response:
        """Take away a tag alone, or a digest with its tags, and by `cascade` what belongs to it."""
        name, call = image(request), call_of(request)
        require_scope(call, name, "delete")
        reference, act = _asked(request), self.registry.act(call, name.project)
        repository, reach = self.registry.repository(name), Reach.parse(request.query.getall("cascade", []))
        if isinstance(reference, Digest):
            await repository.delete(name, reference, act, reach)
        elif reach != ALONE:
            raise CascadeInvalid("a tag is deleted alone: cascade goes with a digest")
        else:
            await repository.untag(name, reference, act)
        return web.Response(status=202, headers=VERSION)


def _asked(request: web.Request) -> Reference:
    """A malformed tag is one that cannot exist; a malformed digest is the client's mistake."""
    try:
        return names.reference(request.match_info["reference"])
    except TagInvalid as error:
        raise ManifestUnknown(str(error)) from error


def _tags(request: web.Request, reference: Reference) -> tuple[Tag, ...]:
    given = tuple(dict.fromkeys(Tag.parse(text) for text in request.query.getall("tag", [])))
    if isinstance(reference, Tag):
        if given:
            raise DigestInvalid("tag parameters go with a digest")
        return (reference,)
    if len(given) > MOST_TAGS:
        raise ManifestInvalid(f"at most {MOST_TAGS} tags are set at once")
    return given


def _knows_already(request: web.Request, stored: Stored) -> bool:
    return f'"{stored.digest}"' in request.headers.get(hdrs.IF_NONE_MATCH, "")


def headers_of(digest: Digest) -> dict[str, str]:
    """What every answer about a manifest says of it."""
    return {**VERSION, "Docker-Content-Digest": digest, hdrs.ETAG: f'"{digest}"'}


def _taken(request: web.Request, manifest: Manifest, tags: tuple[Tag, ...]) -> dict[str, str]:
    digest = manifest.digest
    headers = headers_of(digest)
    headers[hdrs.LOCATION] = f"/v2/{written(request)}/manifests/{digest}"
    if manifest.subject:
        headers["OCI-Subject"] = manifest.subject
    if tags:
        headers["OCI-Tag"] = ", ".join(tags)
    warning = _warning(manifest)
    return headers | ({"Warning": f'299 - "{warning}"'} if warning else {})


def _warning(manifest: Manifest) -> str:
    """What is taken but will hurt somebody."""
    if manifest.media_type == media_types.DOCKER_MANIFEST and any(
        layer.media_type.endswith("+zstd") for layer in manifest.layers
    ):
        return "zstd layers in a Docker schema 2 manifest: many clients cannot pull this; push OCI manifests instead"
    return ""
