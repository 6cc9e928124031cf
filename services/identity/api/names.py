"""Names in paths: projects by id or number, accounts by address or unique id, `-` for whatever project it is in."""

from dataclasses import dataclass

from aiohttp import web

from services.identity.accounts import full_name, project_of
from shared.events.states import AccountState, ProjectState
from shared.identity.directory import Directory

_DIGITS = 20
"""A project's number has fewer; Python refuses to read thousands of them."""


@dataclass(frozen=True)
class Names:
    """Reads names in paths, as far as this replica knows."""

    directory: Directory
    domain: str

    def project(self, request: web.Request) -> str:
        """The id of the project that the path names."""
        return self.project_id(request.match_info["project"])

    def project_id(self, text: str) -> str:
        """A project's id from its id or number."""
        if not (text.isascii() and text.isdigit() and len(text) < _DIGITS):
            return text
        number = int(text)
        found = (fact.project for fact in self.directory.every(ProjectState) if fact.number == number)
        return next(found, text)

    def project_resource(self, request: web.Request) -> str:
        """The project as a resource."""
        return f"projects/{self.project(request)}"

    def account(self, request: web.Request) -> tuple[str, str]:
        """Project and address of the account that the path names.

        The address alone says where the account lies. Clients write `-` for the project, or whatever project they are
        set to: it is not looked at, as at Google.
        """
        project, account = self.project(request), request.match_info["account"]
        if account.isdigit():
            known = (one for one in self.directory.every(AccountState) if one.unique_id == account)
            return next(((fact.project, fact.email) for fact in known), (project, account))
        return project_of(account, self.domain) or project, account

    def account_resource(self, request: web.Request) -> str:
        """The account as a resource."""
        return full_name(*self.account(request))
