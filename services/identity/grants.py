"""What a registry token is given of what was asked: the part that the policies allow, and never an error."""

from collections.abc import Sequence

from shared.identity.caller import Caller, Grant
from shared.identity.directory import Directory
from shared.identity.scopes import ACTIONS, CATALOG, image_name, wanted_actions


def granted(
    directory: Directory, caller: Caller, asked: Sequence[Grant], location: str, *, container_registry: bool = False
) -> tuple[Grant, ...]:
    """The grants that `caller` gets.

    Whether a repository exists is not asked: one that does not is its project's matter, so that who may create it by
    pushing gets the token for that, and nobody learns from a token what there is.
    """
    found: list[Grant] = []
    for grant in asked:
        if grant.kind == CATALOG.kind and grant.name == CATALOG.name and not caller.anonymous:
            found.append(CATALOG)
        elif grant.kind == "repository":
            name = image_name(grant.name, container_registry=container_registry)
            resource = name.resource(location) if name else ""
            actions = tuple(
                action
                for action in wanted_actions(grant.actions)
                if resource and directory.allowed(caller, ACTIONS[action], resource)
            )
            found += [Grant("repository", grant.name, actions)] if actions else []
    return tuple(found)
