"""Service accounts, as iam v1 has them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.identity.accounts import Account, checked_account_id, checked_text, full_name, new_unique_id
from services.identity.api.names import Names
from services.identity.store import Change, Store
from shared.clock import Ids
from shared.events import Fact
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import AlreadyExists, InvalidArgument, NotFound
from shared.http.etags import require_etag
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.masks import paths_of
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer
from shared.state import Write

PATH: Final = "/v1/projects/{project}/serviceAccounts"
ONE: Final = PATH + "/{account:[^/:]+}"
METHOD: Final = "google.iam.admin.v1"
_CHANGEABLE: Final = ("displayName", "description")


@dataclass(frozen=True)
class Also:
    """What goes with a change of an account."""

    request: dict[str, Any] | None = None
    """For the audit entry; nothing secret."""
    response: dict[str, Any] | None = None
    resource: str = ""
    writes: tuple[Write, ...] = ()
    events: tuple[Fact, ...] = ()


class _Described(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    displayName: str | None = None  # noqa: N815 — Google's JSON
    description: str | None = None
    etag: str = ""


class _Create(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    account_id: str = Field(alias="accountId")
    account: _Described = Field(default=_Described(), alias="serviceAccount")


class _Patch(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    account: _Described = Field(alias="serviceAccount")
    mask: str = Field(default="", alias="updateMask")


@dataclass(frozen=True)
class AccountsFace:
    """`projects.serviceAccounts` of iam v1."""

    store: Store
    policies: Policies
    names: Names
    ids: Ids
    domain: str

    def routes(self) -> list[Route]:
        """Verbs behind a colon come first."""
        one, project = self.names.account_resource, self.names.project_resource
        guarded = Guarded(ONE, "iam.serviceAccounts", METHOD, self.exists, one)

        def write(verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
            resource = one if path.startswith(ONE) else project
            return Route(verb, path, handler, permission, resource, f"{METHOD}.{method}", Audit.ADMIN_WRITE)

        return [
            *iam_routes(self.policies, guarded),
            write("POST", f"{ONE}:disable", self.disable, "iam.serviceAccounts.disable", "DisableServiceAccount"),
            write("POST", f"{ONE}:enable", self.enable, "iam.serviceAccounts.enable", "EnableServiceAccount"),
            write("POST", PATH, self.create, "iam.serviceAccounts.create", "CreateServiceAccount"),
            write("PATCH", ONE, self.patch, "iam.serviceAccounts.update", "PatchServiceAccount"),
            write("PUT", ONE, self.update, "iam.serviceAccounts.update", "UpdateServiceAccount"),
            write("DELETE", ONE, self.delete, "iam.serviceAccounts.delete", "DeleteServiceAccount"),
            Route("GET", PATH, self.list, "iam.serviceAccounts.list", project, f"{METHOD}.ListServiceAccounts"),
            Route("GET", ONE, self.get, "iam.serviceAccounts.get", one, f"{METHOD}.GetServiceAccount"),
        ]

    async def exists(self, request: web.Request) -> None:
        """Raises NotFound."""
        await self.named(request)

    async def named(self, request: web.Request) -> Account:
        """The account that the path names. Raises NotFound."""
        project, email = self.names.account(request)
        account, _ = await self.store.account(project, email)
        if account is None:
            raise NotFound(f"Service account {full_name(project, email)[:300]} does not exist.")
        return account

    async def get(self, request: web.Request) -> web.Response:
        """One account."""
        return json_answer((await self.named(request)).v1())

    async def list(self, request: web.Request) -> web.Response:
        """A project's accounts, by address."""
        page = page_of(request, most=100)
        accounts = await self.store.accounts(self.names.project(request))
        behind = [account for account in accounts if account.email > page.after]
        body: dict[str, Any] = {"accounts": [account.v1() for account in behind[: page.size]]}
        if len(behind) > page.size:
            body["nextPageToken"] = next_token(behind[page.size - 1].email)
        return json_answer(body if behind else {})

    async def create(self, request: web.Request) -> web.Response:
        """A new account, without keys."""
        asked = await json_body(request, _Create)
        project = self.names.project(request)
        email = f"{checked_account_id(asked.account_id)}@{project}.{self.domain}"
        account = Account(
            project=project,
            email=email,
            unique_id=new_unique_id(self.ids),
            display_name=checked_text(asked.account.displayName, "displayName", 100),
            description=checked_text(asked.account.description, "description", 256),
        )
        existing, found = await self.store.account(project, email)
        owner, project_found = await self.store.project(project)
        if owner is None or owner.state != "ACTIVE":
            raise NotFound(f"Project {project[:60]} does not exist.")
        if existing is not None:
            raise AlreadyExists(f"Service account {asked.account_id} already exists within {account.project}.")
        call = call_of(request)
        activity = call.activity(
            project=project, resource=account.full_name, request=asked.model_dump(by_alias=True), response=account.v1()
        )
        change = Change(
            project=project,
            request=f"{call.id}:account",
            checks=(self.store.account_is(project, email, found), self.store.project_is(project, project_found)),
            writes=(self.store.keep_account(account),),
            events=(account.fact(), activity),
        )
        await self.store.apply(change, call.cause)
        return json_answer(account.v1())

    async def patch(self, request: web.Request) -> web.Response:
        """Change what the mask names; without one, whatever is given."""
        asked = await json_body(request, _Patch)
        paths = paths_of(asked.mask) or tuple(name for name in _CHANGEABLE if name in asked.account.model_fields_set)
        if set(paths) - {*_CHANGEABLE, "etag"}:
            raise InvalidArgument("Only displayName and description of a service account can be changed.")
        changed = await self.changed(request, _described(asked.account, paths), Also(asked.model_dump(by_alias=True)))
        return json_answer(changed.v1())

    async def update(self, request: web.Request) -> web.Response:
        """The older form of patch: the account itself in the body."""
        asked = await json_body(request, _Described)
        paths = tuple(name for name in _CHANGEABLE if name in asked.model_fields_set)
        changed = await self.changed(request, _described(asked, paths), Also(asked.model_dump()))
        return json_answer(changed.v1())

    async def disable(self, request: web.Request) -> web.Response:
        """Refuse the account everywhere, as soon as that is heard."""
        await self.changed(request, lambda account: account.model_copy(update={"disabled": True}))
        return json_answer({})

    async def enable(self, request: web.Request) -> web.Response:
        """Let a disabled account act again."""
        await self.changed(request, lambda account: account.model_copy(update={"disabled": False}))
        return json_answer({})

    async def delete(self, request: web.Request) -> web.Response:
        """Delete the account with its keys and its policy."""
        name = self.names.account_resource(request)
        dropped, gone = self.policies.gone(name)
        also = Also(writes=(dropped,), events=(gone,)) if await self.policies.of(name) else Also()
        await self.changed(request, lambda _: None, also)
        return json_answer({})

    async def changed(
        self, request: web.Request, edit: Callable[[Account], Account | None], also: Also | None = None
    ) -> Account:
        """Change the account that the path names, or delete it, and return what it is, or was. Raises NotFound."""
        project, email = self.names.account(request)
        call, also = call_of(request), also or Also()

        async def attempt() -> Account:
            account, found = await self.store.account(project, email)
            if account is None:
                raise NotFound(f"Service account {full_name(project, email)[:300]} does not exist.")
            after = edit(account)
            write = self.store.keep_account(after) if after else self.store.drop_account(account)
            shown = also.response or (after.v1() if after else {})
            activity = call.activity(
                project=project, resource=also.resource or account.full_name, request=also.request, response=shown
            )
            change = Change(
                project=project,
                request=f"{call.id}:account",
                checks=(self.store.account_is(project, email, found),),
                writes=(write, *also.writes),
                events=(after.fact() if after else account.gone(), *also.events, activity),
            )
            await self.store.apply(change, call.cause)
            return after or account

        return await self.store.settled(attempt)


def _described(asked: _Described, paths: tuple[str, ...]) -> Callable[[Account], Account]:
    changes: dict[str, str] = {}
    if "displayName" in paths:
        changes["display_name"] = checked_text(asked.displayName, "displayName", 100)
    if "description" in paths:
        changes["description"] = checked_text(asked.description, "description", 256)

    def edit(account: Account) -> Account:
        require_etag(asked.etag, account.v1()["etag"])
        return account.model_copy(update=changes)

    return edit
