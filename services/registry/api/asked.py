"""What an OCI request asks about: the image, and whether a limited token reaches as far as that image."""

from aiohttp import web

from services.registry.errors import NameInvalid
from services.registry.names import ImageName
from services.registry.registry import Registry
from shared.http.call import Call
from shared.http.errors import InsufficientScope
from shared.http.routes import Resource
from shared.identity.caller import Caller


def image(request: web.Request) -> ImageName:
    """The image that the path names; raises NameInvalid."""
    return ImageName.parse(request.match_info["name"])


def written(request: web.Request) -> str:
    """The image's name as the client wrote it, for addresses in answers."""
    return request.match_info["name"]


def repository_of(registry: Registry) -> Resource:
    """The resource that an OCI path is about; a name that breaks the grammar is about nothing anybody may touch."""

    def resource(request: web.Request) -> str:
        try:
            return registry.resource(image(request))
        except NameInvalid:
            return "projects/-"

    return resource


def require_scope(call: Call, name: ImageName, action: str) -> None:
    """Permissions are asked on the repository; a token limited to one image must not reach its neighbours.

    Raises InsufficientScope.
    """
    if not in_scope(call.caller, name, action):
        raise InsufficientScope("The access token is limited to other images or actions.")


def in_scope(caller: Caller, name: ImageName, action: str) -> bool:
    """Whether the caller's token, if it is a limited one, is for this image and action."""
    if caller.access is None:
        return True
    return any(
        grant.kind == "repository" and {action, "*"} & set(grant.actions) and _names(grant.name, name)
        for grant in caller.access
    )


def _names(text: str, name: ImageName) -> bool:
    try:
        return ImageName.parse(text) == name
    except NameInvalid:
        return False
