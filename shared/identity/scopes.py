"""Scopes of registry tokens: `repository:P/R/IMAGE:pull,push`, and which permissions they stand for."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shared.identity.caller import Grant
from shared.names import PROJECT, REPOSITORY_ID

ACTIONS: Final = {
    "pull": "artifactregistry.repositories.downloadArtifacts",
    "push": "artifactregistry.repositories.uploadArtifacts",
    "delete": "artifactregistry.repositories.deleteArtifacts",
}
"""The permission that each action of a scope asks for."""

CATALOG: Final = Grant("registry", "catalog", ("*",))

MAX_SCOPES: Final = 64
MAX_SCOPE: Final = 512

_PARTS: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PARTS}(?:/{_PARTS})*")
_COVERED: Final = {
    "pull": {ACTIONS["pull"]},
    "push": {ACTIONS["push"], "artifactregistry.repositories.createOnPush"},
    "delete": {ACTIONS["delete"]},
}
"""What only the registry's OCI face asks for, as it alone compares the image: a scope is for one image, and whatever
else is asked on a repository is about all that are in it."""


class ScopesTooMany(ValueError):
    """The request asks for more scopes than anybody needs."""


@dataclass(frozen=True)
class ImageName:
    """A docker repository name as Entrepot understands it: a project's repository, and an image in it."""

    project: str
    repository: str
    image: str

    def resource(self, location: str) -> str:
        """The repository's full name."""
        return f"projects/{self.project}/locations/{location}/repositories/{self.repository}"


def image_name(name: str, *, container_registry: bool = False) -> ImageName | None:
    """Read `P/R/IMAGE`; two parts, or any number in Container Registry style, mean the repository `gcr.io`.

    None for a name that can be nobody's.
    """
    parts = name.split("/")
    if len(name) > 255 or len(parts) < 2 or not _NAME.fullmatch(name) or not PROJECT.fullmatch(parts[0]):
        return None
    if container_registry or len(parts) == 2:
        return ImageName(parts[0], "gcr.io", "/".join(parts[1:]))
    if not REPOSITORY_ID.fullmatch(parts[1]):
        return None
    return ImageName(parts[0], parts[1], "/".join(parts[2:]))


def read_scopes(texts: Iterable[str]) -> tuple[Grant, ...]:
    """Merge the scopes of a token request: given several times, or several in one text, in any order.

    What cannot be read is left out, as a token server must grant what it can and never fail the lot. Raises
    ScopesTooMany.
    """
    merged: dict[tuple[str, str], dict[str, None]] = {}
    for text in texts:
        for scope in text.split():
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            kind = kind.partition("(")[0]  # `repository(plugin)` is a repository too
            if kind and name and actions and len(scope) <= MAX_SCOPE:
                merged.setdefault((kind, name), {}).update(dict.fromkeys(filter(None, actions.split(","))))
            if len(merged) > MAX_SCOPES:
                raise ScopesTooMany(f"more than {MAX_SCOPES} scopes")
    return tuple(Grant(kind, name, tuple(actions)) for (kind, name), actions in merged.items())


def wanted_actions(actions: Sequence[str]) -> tuple[str, ...]:
    """The actions that are asked for and known; `*` asks for all of them."""
    if "*" in actions:
        return tuple(ACTIONS)
    return tuple(action for action in dict.fromkeys(actions) if action in ACTIONS)


def covers(access: Sequence[Grant], permission: str, resource: str) -> bool:
    """Whether a token limited to `access` reaches as far as this permission on this resource.

    A scope names an image, a resource its repository or something in it: the registry compares the image too.
    """
    parts = resource.split("/")
    if len(parts) < 6 or parts[0] != "projects" or parts[2] != "locations" or parts[4] != "repositories":
        return False
    return any(_reaches(grant, permission, parts[1], parts[5]) for grant in access)


def _reaches(grant: Grant, permission: str, project: str, repository: str) -> bool:
    name = image_name(grant.name) if grant.kind == "repository" else None
    if name is None or name.project != project:
        return False
    if repository not in {name.repository, "gcr.io"}:  # in Container Registry style every name is of `gcr.io`
        return False
    return any(permission in _COVERED[action] for action in grant.actions if action in _COVERED)
