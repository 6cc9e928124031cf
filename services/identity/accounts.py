"""Service accounts and the public halves of their keys."""

import re
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from shared.clock import Ids
from shared.events.states import AccountKey, AccountState
from shared.http.errors import InvalidArgument
from shared.http.etags import etag_of
from shared.names import PROJECT

MAX_KEYS: Final = 10
NEVER: Final = "9999-12-31T23:59:59Z"

_ACCOUNT_ID: Final = re.compile(r"[a-z](?:[-a-z0-9]{0,28}[a-z0-9])?")
_ADDRESS: Final = re.compile(r"[a-z](?:[-a-z0-9]{0,28}[a-z0-9])?@[a-z0-9][a-z0-9.-]{1,120}")


class Key(BaseModel):
    """The public half of a key; the private half is never kept."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    public_key: str
    """SubjectPublicKeyInfo, PEM."""
    algorithm: Literal["RS256", "ES256"] = "RS256"
    created: str
    not_after: str = ""
    """Empty: it does not end."""
    disabled: bool = False
    uploaded: bool = False
    signature: str = ""
    """The root key's."""

    def v1(self, account: str) -> dict[str, Any]:
        """In the words of iam v1; `account` is the account's full name."""
        body: dict[str, Any] = {
            "name": f"{account}/keys/{self.id}",
            "validAfterTime": self.created,
            "validBeforeTime": self.not_after or NEVER,
            "keyAlgorithm": "KEY_ALG_RSA_2048" if self.algorithm == "RS256" else "KEY_ALG_UNSPECIFIED",
            "keyOrigin": "USER_PROVIDED" if self.uploaded else "GOOGLE_PROVIDED",
            "keyType": "USER_MANAGED",
        }
        return body | ({"disabled": True} if self.disabled else {})


class Account(BaseModel):
    """A service account as identity keeps it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    project: str
    email: str
    unique_id: str
    display_name: str = ""
    description: str = ""
    disabled: bool = False
    keys: dict[str, Key] = {}

    @property
    def full_name(self) -> str:
        """`projects/P/serviceAccounts/EMAIL`."""
        return full_name(self.project, self.email)

    @property
    def member(self) -> str:
        """The account as policies write it."""
        return f"serviceAccount:{self.email}"

    def fact(self) -> AccountState:
        """The account as all services hear it."""
        keys = {
            key.id: AccountKey(
                public_key=key.public_key,
                algorithm=key.algorithm,
                disabled=key.disabled,
                not_before=key.created,
                not_after=key.not_after,
                signature=key.signature,
            )
            for key in self.keys.values()
        }
        return AccountState(
            project=self.project,
            email=self.email,
            unique_id=self.unique_id,
            display_name=self.display_name,
            description=self.description,
            disabled=self.disabled,
            keys=keys,
        )

    def gone(self) -> AccountState:
        """What all services hear when the account is deleted."""
        return AccountState(project=self.project, email=self.email, unique_id=self.unique_id, deleted=True)

    def v1(self) -> dict[str, Any]:
        """In the words of iam v1."""
        body: dict[str, Any] = {
            "name": self.full_name,
            "projectId": self.project,
            "uniqueId": self.unique_id,
            "email": self.email,
            "etag": etag_of(self.model_dump_json(exclude={"keys"}).encode()),
            "oauth2ClientId": self.unique_id,
        }
        told = {"displayName": self.display_name, "description": self.description, "disabled": self.disabled}
        return body | {name: value for name, value in told.items() if value}


def full_name(project: str, email: str) -> str:
    """The resource name of an account."""
    return f"projects/{project}/serviceAccounts/{email}"


def checked_account_id(text: object) -> str:
    """The part of an account's address before the `@`; raises InvalidArgument."""
    if not isinstance(text, str) or not _ACCOUNT_ID.fullmatch(text):
        raise InvalidArgument(
            "accountId must begin with a small letter and have up to 30 small letters, digits and hyphens."
        )
    return text


def checked_text(text: object, name: str, limit: int) -> str:
    """A text for people; raises InvalidArgument."""
    if text is None:
        return ""
    if not isinstance(text, str) or len(text.encode()) > limit:
        raise InvalidArgument(f"{name} is a text of at most {limit} bytes.")
    return text


def is_address(text: str) -> bool:
    """Whether a text has the form of an account's address."""
    return bool(_ADDRESS.fullmatch(text))


def project_of(email: str, domain: str) -> str:
    """The project that an address lies in; empty for one that is nobody's here."""
    project = email.partition("@")[2].removesuffix(f".{domain}")
    return project if PROJECT.fullmatch(project) and email.endswith(f"@{project}.{domain}") else ""


def new_unique_id(ids: Ids) -> str:
    """A number of 21 digits, as Google gives accounts."""
    return f"1{int.from_bytes(ids.secret(12)) % 10**20:020d}"
