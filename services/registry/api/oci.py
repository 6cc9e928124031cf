"""OCI distribution: which verb on which path is whose, and what right it needs."""

import re
from dataclasses import dataclass, replace

from aiohttp import hdrs, web

from services.registry.api.asked import repository_of
from services.registry.api.blobs import BlobFace
from services.registry.api.glances import manifest_glances
from services.registry.api.lists import ListFace
from services.registry.api.manifests import ManifestFace
from services.registry.api.uploads import UploadFace
from services.registry.errors import NameInvalid, NameUnknown, UploadUnknown
from services.registry.registry import Registry
from shared.http.call import call_of
from shared.http.errors import NotFound, Unauthenticated
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import MethodNotAllowed

PULL = "artifactregistry.repositories.downloadArtifacts"
PUSH = "artifactregistry.repositories.uploadArtifacts"
DELETE = "artifactregistry.repositories.deleteArtifacts"

_PROJECT = "[a-z][a-z0-9-]{0,28}[a-z0-9]"
_REPOSITORY = r"(?:[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|gcr\.io)"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = f"{_PROJECT}/(?:{_REPOSITORY}(?:/{_COMPONENT})+|{_COMPONENT})"
NAME = f"{{name:{_NAME}}}"
"""Two components, or a repository and at least one more; what does not fit falls through to `_nothing`."""
_MANIFEST = re.compile(
    f"/v2/(?P<{NAME[1:-1].replace(':', '>', 1)})/manifests/(?P<reference>[A-Za-z0-9_.:-]+)", re.ASCII
)
"""The same as the lane reads it: letters that no client writes in more than one way."""
_UPLOAD = re.compile(f"/v2/(?P<{NAME[1:-1].replace(':', '>', 1)})/blobs/uploads/(?P<upload>[0-9a-f]{{32}})", re.ASCII)
"""The address of an upload, as it was given out."""

_OCI_NAME = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")
_IMAGE = re.compile(_NAME)
_ABOUT_AN_IMAGE = re.compile(r"/v2/(.*?)/(?:manifests|blobs|blobs/uploads|tags|referrers)/([^/]*)", re.DOTALL)

_SIGNED = "the address itself is signed and authorises this upload for its own life"


@dataclass(frozen=True)
class OciFaces:
    """The faces behind the paths."""

    manifests: ManifestFace
    blobs: BlobFace
    uploads: UploadFace
    lists: ListFace


def oci_routes(registry: Registry, faces: OciFaces) -> list[Route]:
    """Every path under `/v2/`."""
    resource = repository_of(registry)

    def route(verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
        writes = verb in {"PUT", "POST", "PATCH", "DELETE"}
        audit = Audit.DATA_WRITE if writes else Audit.DATA_READ
        streams = path.startswith("blobs/")
        seconds, body = (0.0, 0) if streams else (None, registry.settings.manifest_bytes)
        return Route(
            verb,
            f"/v2/{NAME}/{path}",
            handler,
            permission,
            resource,
            f"Docker-{method}",
            audit,
            body=body,
            seconds=seconds,
        )

    def quick(plain: Route) -> Route:
        return replace(plain, glance=manifest_glances(registry, plain.verb, _MANIFEST))

    # The router tries them in this order: what is asked most comes first.
    manifests, blobs, uploads, lists = faces.manifests, faces.blobs, faces.uploads, faces.lists
    return [
        *_pings(lists),
        Route(
            "GET", "/v2/_catalog", lists.catalog, "", audit=Audit.NONE, open_because="it shows what the caller may list"
        ),
        quick(route("GET", "manifests/{reference}", manifests.get, PULL, "GetManifest")),
        quick(route("HEAD", "manifests/{reference}", manifests.get, PULL, "HeadManifest")),
        route("PUT", "manifests/{reference}", manifests.put, PUSH, "PutManifest"),
        route("DELETE", "manifests/{reference}", manifests.delete, DELETE, "DeleteManifest"),
        route("GET", "blobs/{digest}", blobs.get, PULL, "GetBlob"),
        route("HEAD", "blobs/{digest}", blobs.get, PULL, "HeadBlob"),
        route("DELETE", "blobs/{digest}", blobs.delete, DELETE, "DeleteBlob"),
        *_sessions(uploads),
        *(route("POST", f"blobs/uploads{end}", uploads.begin, PUSH, "StartUpload") for end in ("/", "")),
        route("GET", "tags/list", lists.tags, PULL, "ListTags"),
        route("GET", "referrers/{digest}", lists.referrers, PULL, "ListReferrers"),
        Route("*", "/v2/{rest:.*}", _nothing, "", audit=Audit.NONE, open_because="nothing is served there"),
    ]


def _pings(lists: ListFace) -> list[Route]:
    why = "it asks for a token, whatever it allows"
    paths = [(verb, path) for verb in ("GET", "HEAD") for path in ("/v2", "/v2/")]
    return [Route(verb, path, lists.ping, "", audit=Audit.NONE, open_because=why) for verb, path in paths]


def _sessions(uploads: UploadFace) -> list[Route]:
    def route(verb: str, handler: Handler, audit: Audit = Audit.NONE, method: str = "") -> Route:
        path = f"/v2/{NAME}/blobs/uploads/{{upload}}"
        return Route(
            verb,
            path,
            _or_a_token(handler),
            "",
            method=method,
            audit=audit,
            open_because=_SIGNED,
            body=0,
            seconds=0.0,
            shape=_UPLOAD,
        )

    return [
        route("GET", uploads.status),
        route("PATCH", uploads.append),
        route("PUT", uploads.finish, Audit.DATA_WRITE, "Docker-FinishUpload"),
        route("DELETE", uploads.cancel),
    ]


def _or_a_token(handler: Handler) -> Handler:
    """For an address that authorises nothing, whoever shows no token is asked for one, as everywhere."""

    async def signed(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except UploadUnknown as error:
            if hdrs.AUTHORIZATION in request.headers:
                raise
            raise Unauthenticated("This needs an access token.") from error

    return signed


async def _nothing(request: web.Request) -> web.StreamResponse:
    """Who shows no token learns nothing, not even that a name cannot be."""
    if call_of(request).caller.anonymous:
        raise Unauthenticated("authentication required")
    named = _ABOUT_AN_IMAGE.fullmatch(request.path)
    if named is None:
        raise NotFound("there is nothing at this address")
    if _IMAGE.fullmatch(named[1]):
        raise MethodNotAllowed(f"this address does not take the verb {request.method[:20]}")
    if _OCI_NAME.fullmatch(named[1]):
        # docker retries a refused upload for a minute, except where the name is unknown.
        raise NameUnknown(f"{named[1][:160]!r} names no image here: write PROJECT/REPOSITORY/IMAGE, as in demo/web/app")
    raise NameInvalid("the path names no image: PROJECT/REPOSITORY/IMAGE, in small letters")
