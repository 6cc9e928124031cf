"""Groups: several members under one name; a group may hold groups."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.events.states import GroupState
from shared.http.errors import InvalidArgument
from shared.http.etags import etag_of
from shared.identity.policies import PolicyInvalid, known_member, read_members

MAX_MEMBERS = 1000


class Group(BaseModel):
    """A group and its direct members."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    email: str
    display_name: str = ""
    members: tuple[str, ...] = ()

    def fact(self) -> GroupState:
        """The group as all services hear it."""
        return GroupState(project="", email=self.email, members=self.members)

    def v1(self) -> dict[str, Any]:
        """As the groups face answers it."""
        body: dict[str, Any] = {
            "name": f"groups/{self.email}",
            "email": self.email,
            "members": list(self.members),
            "etag": etag_of(self.model_dump_json().encode()),
        }
        return body | ({"displayName": self.display_name} if self.display_name else {})


def checked_group(email: object) -> str:
    """A group's address as it may be; raises InvalidArgument."""
    if not isinstance(email, str) or not known_member(f"group:{email}"):
        raise InvalidArgument("email must be an address such as developers@example.org.")
    return email.lower()


def checked_members(members: list[str]) -> tuple[str, ...]:
    """Members as a group may have them; raises InvalidArgument."""
    if len(members) > MAX_MEMBERS:
        raise InvalidArgument(f"A group has at most {MAX_MEMBERS} direct members.")
    if any(not member.startswith(("user:", "serviceAccount:", "group:")) for member in members):
        raise InvalidArgument("Members of a group are users, service accounts and groups.")
    try:
        return read_members(members)
    except PolicyInvalid as error:
        raise InvalidArgument(str(error)) from error
