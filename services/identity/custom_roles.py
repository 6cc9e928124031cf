"""Custom roles: permissions put together by a project or by the organisation."""

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from services.identity.roles import PERMISSIONS
from shared.events.states import RoleState
from shared.http.errors import InvalidArgument
from shared.http.etags import etag_of

Stage = Literal["ALPHA", "BETA", "GA", "DEPRECATED", "DISABLED", "EAP"]

_ROLE_ID: Final = re.compile(r"[a-zA-Z0-9_.]{3,64}")


class CustomRole(BaseModel):
    """A custom role as identity keeps it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    project: str
    """Empty for a role of the organisation."""
    name: str
    """`projects/P/roles/R` or `organizations/O/roles/R`."""
    title: str = ""
    description: str = ""
    permissions: tuple[str, ...] = ()
    stage: Stage = "ALPHA"

    def fact(self) -> RoleState:
        """The role as all services hear it; a disabled one grants nothing."""
        return RoleState(
            project=self.project,
            role=self.name,
            title=self.title,
            description=self.description,
            permissions=() if self.stage == "DISABLED" else self.permissions,
        )

    def v1(self, *, full: bool = True) -> dict[str, Any]:
        """In the words of iam v1; the lists' basic view has no permissions."""
        body: dict[str, Any] = {
            "name": self.name,
            "title": self.title,
            "stage": self.stage,
            "etag": etag_of(self.model_dump_json().encode()),
        }
        if self.description:
            body["description"] = self.description
        if full and self.permissions:
            body["includedPermissions"] = list(self.permissions)
        return body


def checked_role_id(text: object) -> str:
    """A custom role's id as it may be; raises InvalidArgument."""
    if not isinstance(text, str) or not _ROLE_ID.fullmatch(text):
        raise InvalidArgument("roleId has 3 to 64 letters, digits, '_' and '.'.")
    return text


def checked_permissions(permissions: Sequence[str]) -> tuple[str, ...]:
    """Permissions that exist; raises InvalidArgument."""
    unknown = [permission for permission in permissions if permission not in PERMISSIONS]
    if unknown:
        raise InvalidArgument(f"Permission {unknown[0][:120]} is not valid.")
    return tuple(sorted(set(permissions)))
