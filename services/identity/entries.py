"""Audit entries about what identity does without being called: what it makes at its first start."""

from dataclasses import dataclass
from typing import Any, Final

from services.identity.accounts import Account, Key
from services.identity.projects import Project
from shared.clock import Clock
from shared.events import Cause, caused_id
from shared.events.audit import AuditActivity
from shared.events.states import PolicyState
from shared.http.entries import Asked, Origin, log_entry
from shared.identity.caller import Caller
from shared.identity.members import Accounts
from shared.identity.policies import policy_json

_ORIGIN: Final = Origin("identity", Caller("system:identity"), "", "", "")
_PROJECTS: Final = "google.cloud.resourcemanager.v3.Projects"
_ORGANIZATIONS: Final = "google.cloud.resourcemanager.v3.Organizations"
_IAM: Final = "google.iam.admin.v1"


@dataclass(frozen=True)
class Beginnings:
    """Makes the entries; they go into the steps that make the things. They read like those of calls."""

    clock: Clock
    accounts: Accounts

    def project(self, project: Project, cause: Cause) -> AuditActivity:
        """A project was made."""
        resource = f"projects/{project.id}"
        asked = _asked(f"{_PROJECTS}.CreateProject", resource, "resourcemanager.projects.create", project.v3())
        return self._entry(project.id, asked, cause)

    def policy(self, policy: PolicyState, cause: Cause) -> AuditActivity:
        """A project or the organisation was given its first policy."""
        method, kind = (_PROJECTS, "projects") if policy.project else (_ORGANIZATIONS, "organizations")
        permission = f"resourcemanager.{kind}.setIamPolicy"
        asked = _asked(f"{method}.SetIamPolicy", policy.full_name, permission, policy_json(policy, self.accounts))
        return self._entry(policy.project, asked, cause)

    def account(self, account: Account, cause: Cause) -> AuditActivity:
        """A service account was made."""
        method, permission = f"{_IAM}.CreateServiceAccount", "iam.serviceAccounts.create"
        return self._entry(account.project, _asked(method, account.full_name, permission, account.v1()), cause)

    def key(self, account: Account, key: Key, cause: Cause) -> AuditActivity:
        """An account was given a key."""
        shown = key.v1(account.full_name)
        method, permission = f"{_IAM}.CreateServiceAccountKey", "iam.serviceAccountKeys.create"
        return self._entry(account.project, _asked(method, shown["name"], permission, shown), cause)

    def _entry(self, project: str, asked: Asked, cause: Cause) -> AuditActivity:
        insert_id = caused_id(cause.id, f"{asked.method} {asked.resource}", 0)
        entry = log_entry("activity", project, _ORIGIN, asked, now=self.clock.now(), insert_id=insert_id)
        return AuditActivity(project=project, producer="identity", entry=entry)


def _asked(method: str, resource: str, permission: str, response: dict[str, Any]) -> Asked:
    return Asked(method=method, resource=resource, permission=permission, response=response)
