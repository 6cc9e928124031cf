"""Access levels and service perimeters, as accesscontextmanager v1 has them; the organisation has one access policy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from services.identity.api.names import Names
from services.identity.perimeters import AccessPolicy, checked_id
from services.identity.store import ORGANIZATION, Change, Store
from shared.events.states import ProjectState
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import AlreadyExists, InvalidArgument, NotFound
from shared.http.etags import etag_of
from shared.http.masks import apply_mask, field_mask
from shared.http.operations import finished
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer

_PATH: Final = "/v1/accessPolicies"
_ONE: Final = _PATH + "/{policy:[^/:]+}"
_METHOD: Final = "google.identity.accesscontextmanager.v1.AccessContextManager"
_TYPE: Final = "google.identity.accesscontextmanager.v1"


@dataclass(frozen=True)
class _Kind:
    """A kind of thing in the policy."""

    path: str
    message: str
    things: Callable[[AccessPolicy], Mapping[str, dict[str, Any]]]
    edited: Callable[[AccessPolicy, str, Mapping[str, Any] | None], AccessPolicy]


_LEVELS: Final = _Kind("accessLevels", "AccessLevel", lambda policy: policy.levels, AccessPolicy.with_level)
_PERIMETERS: Final = _Kind(
    "servicePerimeters", "ServicePerimeter", lambda policy: policy.perimeters, AccessPolicy.with_perimeter
)


@dataclass(frozen=True)
class PerimetersFace:
    """`accessPolicies` and what is in them."""

    store: Store
    names: Names
    organization: str
    """`organizations/1`."""

    @property
    def policy(self) -> str:
        """The one access policy: `accessPolicies/1`."""
        return f"accessPolicies/{self.organization.partition('/')[2]}"

    def routes(self) -> list[Route]:
        """All ask on the organisation, which no perimeter fences: nobody can shut themselves out for good."""
        policies = [
            self._route("GET", _PATH, self.list_policies, "policies.list", "ListAccessPolicies"),
            self._route("GET", _ONE, self.get_policy, "policies.get", "GetAccessPolicy"),
            self._route(
                "GET", "/v1/operations/accessPolicies/{rest:.+}", self.operation, "policies.get", "GetOperation"
            ),
        ]
        return [*policies, *self._of(_LEVELS), *self._of(_PERIMETERS)]

    def _of(self, kind: _Kind) -> list[Route]:
        path, message = f"{_ONE}/{kind.path}", kind.message
        one = f"{path}/{{thing:[^/:]+}}"

        def handler(make: Callable[[web.Request, _Kind], Any]) -> Handler:
            async def handle(request: web.Request) -> web.Response:
                self._named(request)
                return await make(request, kind)

            return handle

        return [
            self._route("GET", path, handler(self._list), f"{kind.path}.list", f"List{message}s"),
            self._route("POST", path, handler(self._create), f"{kind.path}.create", f"Create{message}"),
            self._route("GET", one, handler(self._get), f"{kind.path}.get", f"Get{message}"),
            self._route("PATCH", one, handler(self._patch), f"{kind.path}.update", f"Update{message}"),
            self._route("DELETE", one, handler(self._delete), f"{kind.path}.delete", f"Delete{message}"),
        ]

    def _route(self, verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
        kind = Audit.ADMIN_READ if verb == "GET" else Audit.ADMIN_WRITE
        permission = f"accesscontextmanager.{permission}"
        return Route(verb, path, handler, permission, lambda _: self.organization, f"{_METHOD}.{method}", kind)

    async def list_policies(self, request: web.Request) -> web.Response:
        """The one policy, of the one organisation."""
        if request.query.get("parent", self.organization) != self.organization:
            return json_answer({})
        return json_answer({"accessPolicies": [await self._told()]})

    async def get_policy(self, request: web.Request) -> web.Response:
        """The policy."""
        self._named(request)
        return json_answer(await self._told())

    async def operation(self, request: web.Request) -> web.Response:
        """What is done here is done at once."""
        return json_answer({"name": f"operations/accessPolicies/{request.match_info['rest']}", "done": True})

    async def _told(self) -> dict[str, Any]:
        policy, _ = await self.store.access_policy()
        etag = etag_of(policy.model_dump_json().encode())
        return {"name": self.policy, "parent": self.organization, "title": "default policy", "etag": etag}

    async def _list(self, request: web.Request, kind: _Kind) -> web.Response:
        del request
        policy, _ = await self.store.access_policy()
        things = kind.things(policy)
        return json_answer({kind.path: [things[name] for name in sorted(things)]} if things else {})

    async def _get(self, request: web.Request, kind: _Kind) -> web.Response:
        policy, _ = await self.store.access_policy()
        return json_answer(_thing(kind, policy, request.match_info["thing"]))

    async def _create(self, request: web.Request, kind: _Kind) -> web.Response:
        body = await json_body(request)
        name = checked_id(body.get("name"), f"{self.policy}/{kind.path}")

        def edit(policy: AccessPolicy) -> AccessPolicy:
            if name in kind.things(policy):
                raise AlreadyExists(f"{self.policy}/{kind.path}/{name} exists already.")
            return kind.edited(policy, name, body)

        return await self._changed(request, kind, name, edit)

    async def _patch(self, request: web.Request, kind: _Kind) -> web.Response:
        body, name, paths = await json_body(request), request.match_info["thing"], field_mask(request)

        def edit(policy: AccessPolicy) -> AccessPolicy:
            before = _thing(kind, policy, name)
            after = apply_mask(before, {key: value for key, value in body.items() if key != "name"}, paths)
            return kind.edited(policy, name, {**after, "name": before["name"]})

        return await self._changed(request, kind, name, edit)

    async def _delete(self, request: web.Request, kind: _Kind) -> web.Response:
        name = request.match_info["thing"]

        def edit(policy: AccessPolicy) -> AccessPolicy:
            _thing(kind, policy, name)
            return kind.edited(policy, name, None)

        return await self._changed(request, kind, name, edit)

    async def _changed(
        self, request: web.Request, kind: _Kind, name: str, edit: Callable[[AccessPolicy], AccessPolicy]
    ) -> web.Response:
        call = call_of(request)
        resource = f"{self.policy}/{kind.path}/{name}"

        async def attempt() -> dict[str, Any]:
            policy, found = await self.store.access_policy()
            after = edit(policy)
            self._check_projects(after)
            told = kind.things(after).get(name, {})
            activity = call.activity(project="", resource=resource, request=told, response=told)
            change = Change(
                project=ORGANIZATION,
                request=f"{call.id}:perimeters",
                checks=(self.store.access_policy_is(found),),
                writes=(self.store.keep_access_policy(after),),
                events=(after.fact(self.policy, self.organization), activity),
            )
            await self.store.apply(change, call.cause)
            return told

        told = await self.store.settled(attempt)
        message = f"{_TYPE}.{kind.message}" if told else "google.protobuf.Empty"
        return json_answer(finished(f"operations/{resource}/{call.id}", told, message))

    def _check_projects(self, policy: AccessPolicy) -> None:
        known = {f"projects/{fact.number}" for fact in self.names.directory.every(ProjectState)}
        unknown = sorted(policy.projects() - known)
        if unknown:
            raise InvalidArgument(f"{unknown[0][:60]!r} is no project here; write projects/ and its number.")

    def _named(self, request: web.Request) -> None:
        if f"accessPolicies/{request.match_info['policy']}" != self.policy:
            raise NotFound("There is no such access policy.")


def _thing(kind: _Kind, policy: AccessPolicy, name: str) -> dict[str, Any]:
    found = kind.things(policy).get(name)
    if found is None:
        raise NotFound(f"There is no such {kind.message}.")
    return found
