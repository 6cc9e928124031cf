"""Deny policies, as iam v2 has them: rules at a project or the organisation that beat every grant."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.identity.api.names import Names
from services.identity.store import Change, Store
from shared.clock import Clock, rfc3339
from shared.events.states import DenyRule, PolicyState
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import AlreadyExists, InvalidArgument, NotFound
from shared.http.etags import etag_of, require_etag
from shared.http.iam import Policies
from shared.http.operations import finished
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer
from shared.identity.directory import project_in
from shared.identity.policies import PolicyInvalid, read_members, with_etag
from shared.state import DropField, Put, PutField, ValueIs, Write

_ALL: Final = "/v2/policies/{point:[^/]+}/denypolicies"
_ONE: Final = _ALL + "/{policy:[^/:]+}"
_METHOD: Final = "google.iam.v2.Policies"
_TYPE: Final = "google.iam.v2.Policy"
_POINT: Final = re.compile(r"cloudresourcemanager\.googleapis\.com/((?:projects|organizations)/[A-Za-z0-9-]{1,60})")
_ID: Final = re.compile(r"[a-z][a-z0-9.-]{2,62}")
_PERMISSION: Final = re.compile(r"([a-z]+)\.googleapis\.com/([A-Za-z]+\.(?:[A-Za-z]+|\*)|\*)")
_MOST: Final = 20
_PRINCIPALS: Final = (
    (re.compile(r"principalSet://goog/public:all"), "allUsers"),
    (re.compile(r"principal://goog/subject/([^/\s]+@[^/\s]+)"), "user:{}"),
    (re.compile(r"principalSet://goog/group/([^/\s]+@[^/\s]+)"), "group:{}"),
    (re.compile(r"principal://iam\.googleapis\.com/projects/-/serviceAccounts/([^/\s]+@[^/\s]+)"), "serviceAccount:{}"),
)


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    principals: list[str] = Field(alias="deniedPrincipals", min_length=1)
    permissions: list[str] = Field(alias="deniedPermissions", min_length=1)
    except_principals: list[str] = Field(default=[], alias="exceptionPrincipals")

    def read(self) -> DenyRule:
        """The rule as decisions know it. Raises InvalidArgument."""
        return DenyRule(
            members=_members(self.principals),
            permissions=tuple(_permission(name) for name in self.permissions),
            except_members=_members(self.except_principals),
        )


class _NamedRule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(default="", max_length=256)
    deny: _Rule = Field(alias="denyRule")


class _DenyPolicy(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    display_name: str = Field(default="", alias="displayName", max_length=63)
    etag: str = ""
    rules: list[_NamedRule] = Field(default=[], max_length=100)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)

    policy: _DenyPolicy
    created: str
    updated: str


@dataclass(frozen=True)
class DenialsFace:
    """`policies` of iam v2, of the kind `denypolicies`."""

    store: Store
    policies: Policies
    names: Names
    clock: Clock

    def routes(self) -> list[Route]:
        """Permissions are asked at the place that the policy is attached to."""

        def route(verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
            kind = Audit.ADMIN_READ if verb == "GET" else Audit.ADMIN_WRITE
            return Route(
                verb, path, handler, f"iam.denypolicies.{permission}", self._place, f"{_METHOD}.{method}", kind
            )

        return [
            route("GET", _ALL, self.list, "list", "ListPolicies"),
            route("POST", _ALL, self.create, "create", "CreatePolicy"),
            route("GET", _ONE, self.get, "get", "GetPolicy"),
            route("PUT", _ONE, self.update, "update", "UpdatePolicy"),
            route("DELETE", _ONE, self.delete, "delete", "DeletePolicy"),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """The deny policies of a place."""
        place = self._place(request)
        kept = await self._all(place)
        told = [_told(request, name, kept[name]) for name in sorted(kept)]
        return json_answer({"policies": told} if told else {})

    async def get(self, request: web.Request) -> web.Response:
        """One deny policy."""
        name = request.match_info["policy"]
        return json_answer(_told(request, name, _existing(await self._all(self._place(request)), name)))

    async def create(self, request: web.Request) -> web.Response:
        """A new deny policy, in force as soon as it is heard."""
        asked, name = await json_body(request, _DenyPolicy), request.query.get("policyId", "")
        if not _ID.fullmatch(name):
            raise InvalidArgument(
                "policyId begins with a small letter and has 3 to 63 small letters, digits, '.', '-'."
            )
        now = rfc3339(self.clock.now())

        def edit(before: _Kept | None) -> _Kept:
            if before is not None:
                raise AlreadyExists(f"The deny policy {name} exists already.")
            return _Kept(policy=asked, created=now, updated=now)

        return _operation(request, name, await self._changed(request, name, edit))

    async def update(self, request: web.Request) -> web.Response:
        """Replace a deny policy."""
        asked, name = await json_body(request, _DenyPolicy), request.match_info["policy"]

        def edit(before: _Kept | None) -> _Kept:
            found = _existing({name: before} if before else {}, name)
            require_etag(asked.etag, _etag(found))
            return _Kept(policy=asked, created=found.created, updated=rfc3339(self.clock.now()))

        return _operation(request, name, await self._changed(request, name, edit))

    async def delete(self, request: web.Request) -> web.Response:
        """Remove a deny policy."""
        name = request.match_info["policy"]

        def edit(before: _Kept | None) -> None:
            found = _existing({name: before} if before else {}, name)
            require_etag(request.query.get("etag", ""), _etag(found))

        return _operation(request, name, await self._changed(request, name, edit))

    async def _changed(self, request: web.Request, name: str, edit: Callable[[_Kept | None], _Kept | None]) -> _Kept:
        """Change one deny policy, and with it the rules in the place's policy, in one step."""
        place, call = self._place(request), call_of(request)
        project = project_in(place)
        records, policy_key = self.store.keys.of(project, "denials", place), self.policies.key(place)

        async def attempt() -> _Kept:
            policy = await self.store.state.value(policy_key)  # first: it changes with every change of the records
            kept = await self._all(place)
            after = edit(kept.get(name))
            shown = _existing(kept, name) if after is None else after
            fact = _with_rules(policy, place, {**kept, name: after})
            write: Write = DropField(records, name)
            if after is not None:
                write = PutField(records, name, after.model_dump_json(by_alias=True))
            activity = call.activity(project=project, resource=place, response=_told(request, name, shown))
            change = Change(
                project=project,
                request=f"{call.id}:denial",
                checks=(ValueIs(policy_key, policy),),
                writes=(write, Put(policy_key, fact.model_dump_json())),
                events=(fact, activity),
            )
            await self.store.apply(change, call.cause)
            return shown

        return await self.store.settled(attempt)

    async def _all(self, place: str) -> dict[str, _Kept]:
        stored = await self.store.state.record(self.store.keys.of(project_in(place), "denials", place))
        return {name: _Kept.model_validate_json(text) for name, text in stored.items()}

    def _place(self, request: web.Request) -> str:
        """The resource that the policy is attached to; its name comes escaped, once or twice."""
        point = request.match_info["point"].replace("%2F", "/").replace("%2f", "/")
        found = _POINT.fullmatch(point)
        if found is None:
            raise InvalidArgument("Deny policies are attached to cloudresourcemanager.googleapis.com/projects/P.")
        kind, _, name = found[1].partition("/")
        return f"projects/{self.names.project_id(name)}" if kind == "projects" else found[1]


def _with_rules(stored: str | None, place: str, kept: dict[str, _Kept | None]) -> PolicyState:
    """The place's policy with the rules of all its deny policies."""
    before = PolicyState.model_validate_json(stored) if stored else None
    policy = before or PolicyState(project=project_in(place), full_name=place)
    left = {name: one for name, one in kept.items() if one is not None}
    if len(left) > _MOST:
        raise InvalidArgument(f"A place has at most {_MOST} deny policies.")
    rules = tuple(rule.deny.read() for name in sorted(left) for rule in left[name].policy.rules)
    return with_etag(policy.model_copy(update={"deny": rules}), policy.etag)


def _existing(kept: dict[str, _Kept], name: str) -> _Kept:
    if name not in kept:
        raise NotFound(f"There is no deny policy {name[:63]!r} here.")
    return kept[name]


def _etag(kept: _Kept) -> str:
    return etag_of(kept.model_dump_json(by_alias=True).encode())


def _told(request: web.Request, name: str, kept: _Kept) -> dict[str, Any]:
    point = request.match_info["point"].replace("/", "%2F")
    return {
        "name": f"policies/{point}/denypolicies/{name}",
        "kind": "DenyPolicy",
        "displayName": kept.policy.display_name,
        "etag": _etag(kept),
        "createTime": kept.created,
        "updateTime": kept.updated,
        "rules": [rule.model_dump(by_alias=True, exclude_defaults=True) for rule in kept.policy.rules],
    }


def _operation(request: web.Request, name: str, kept: _Kept) -> web.Response:
    told = _told(request, name, kept)
    return json_answer(finished(f"{told['name']}/operations/{call_of(request).id}", told, _TYPE))


def _members(principals: list[str]) -> tuple[str, ...]:
    try:
        return read_members(_member(principal) for principal in principals)
    except PolicyInvalid as error:
        raise InvalidArgument(str(error)) from error


def _member(principal: str) -> str:
    """Google's v2 name of a principal as policies here write it."""
    for form, member in _PRINCIPALS:
        found = form.fullmatch(principal)
        if found is not None:
            return member.format(*found.groups())
    raise InvalidArgument(f"The principal {principal[:200]!r} is not one that is known here.")


def _permission(name: str) -> str:
    """`artifactregistry.googleapis.com/repositories.delete` as permissions are written elsewhere."""
    found = _PERMISSION.fullmatch(name)
    if found is None:
        raise InvalidArgument(f"The permission {name[:120]!r} is not of the form SERVICE.googleapis.com/RESOURCE.VERB.")
    service = "resourcemanager" if found[1] == "cloudresourcemanager" else found[1]
    return f"{service}.{found[2]}"
