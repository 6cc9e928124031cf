"""A project: what all resources lie in, and the nearest place above them that has a policy."""

import re
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from shared.clock import Ids
from shared.events.states import Binding, PolicyState, ProjectState
from shared.http.errors import InvalidArgument
from shared.http.etags import etag_of
from shared.identity.policies import with_etag
from shared.names import PROJECT

State = Literal["ACTIVE", "DELETE_REQUESTED"]

_LABEL_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE: Final = re.compile(r"[a-z0-9_-]{0,63}")


class Project(BaseModel):
    """A project as identity keeps it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    number: int
    name: str
    labels: dict[str, str] = {}
    parent: str = ""
    state: State = "ACTIVE"
    created: str
    updated: str
    delete_requested: str = ""

    def fact(self) -> ProjectState:
        """The project as all services hear it."""
        return ProjectState(
            project=self.id,
            number=self.number,
            name=self.name,
            labels=self.labels,
            parent=self.parent,
            created=self.created,
            updated=self.updated,
            state=self.state,
        )

    @classmethod
    def of(cls, fact: ProjectState) -> "Project":
        """The project behind a fact, for lists."""
        return cls(
            id=fact.project,
            number=fact.number,
            name=fact.name,
            labels=fact.labels,
            parent=fact.parent,
            state="ACTIVE" if fact.state == "ACTIVE" else "DELETE_REQUESTED",
            created=fact.created,
            updated=fact.updated,
        )

    def v1(self) -> dict[str, Any]:
        """In the words of cloudresourcemanager v1."""
        body: dict[str, Any] = {
            "projectNumber": str(self.number),
            "projectId": self.id,
            "lifecycleState": self.state,
            "name": self.name,
            "createTime": self.created,
        }
        if self.labels:
            body["labels"] = self.labels
        kind, _, number = self.parent.partition("/")
        if number:
            body["parent"] = {"type": kind.removesuffix("s"), "id": number}
        return body

    def v3(self) -> dict[str, Any]:
        """In the words of cloudresourcemanager v3."""
        body: dict[str, Any] = {
            "name": f"projects/{self.number}",
            "projectId": self.id,
            "state": self.state,
            "displayName": self.name,
            "createTime": self.created,
            "updateTime": self.updated,
            "etag": etag_of(self.model_dump_json().encode()),
        }
        if self.parent:
            body["parent"] = self.parent
        if self.labels:
            body["labels"] = self.labels
        if self.delete_requested:
            body["deleteTime"] = self.delete_requested
        return body


def checked_project_id(text: object) -> str:
    """A project id as it may be; raises InvalidArgument."""
    if not isinstance(text, str) or not PROJECT.fullmatch(text):
        raise InvalidArgument(
            "projectId must begin with a small letter and have 2 to 30 small letters, digits and hyphens."
        )
    return text


def checked_name(text: object, default: str) -> str:
    """A display name as it may be; raises InvalidArgument."""
    if text is None or text == "":
        return default
    if not isinstance(text, str) or len(text) > 100 or not text.isprintable():
        raise InvalidArgument("A display name is a printable text of at most 100 characters.")
    return text


def checked_labels(labels: object) -> dict[str, str]:
    """Labels as they may be; raises InvalidArgument."""
    if labels is None:
        return {}
    if not isinstance(labels, dict) or len(labels) > 64:  # pyright: ignore[reportUnknownArgumentType]
        raise InvalidArgument("labels is an object of at most 64 texts.")
    found: dict[str, str] = {}
    for key, value in labels.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str) or not _LABEL_KEY.fullmatch(key):
            raise InvalidArgument("A label's name has 1 to 63 small letters, digits, '_' and '-'.")
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            raise InvalidArgument("A label's value has up to 63 small letters, digits, '_' and '-'.")
        found[key] = value
    return found


def owned_by(project: str, member: str, unique_id: str) -> PolicyState:
    """A new project's policy. `unique_id` is the owner's, where that is an account."""
    binding = Binding(role="roles/owner", members=(member,))
    ids = {member: unique_id} if unique_id else {}
    policy = PolicyState(project=project, full_name=f"projects/{project}", bindings=(binding,), unique_ids=ids)
    return with_etag(policy, "")


def new_project_number(ids: Ids) -> int:
    """A number of 12 digits, as Google gives projects."""
    return 10**11 + int.from_bytes(ids.secret(8)) % (9 * 10**11)
