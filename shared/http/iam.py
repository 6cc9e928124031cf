"""getIamPolicy, setIamPolicy and testIamPermissions, for the resources of any service: the owner keeps the policy."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel, Field

from shared.clock import Clock
from shared.events.states import PolicyState
from shared.http.bodies import json_body, validated
from shared.http.call import call_of
from shared.http.errors import Aborted, InvalidArgument, Unavailable
from shared.http.paths import resource_of
from shared.http.routes import Audit, Handler, Resource, Route
from shared.http.translation import json_answer
from shared.identity.directory import Directory, project_in
from shared.identity.members import addresses_in, missing
from shared.identity.policies import PolicyInvalid, PolicyMoved, changed_policy, policy_json
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import Check, Drop, Keys, Put, State, Step, ValueIs, Write

HEARING_SECONDS = 3.0
"""How long the owner of a resource waits for word of an account that it does not know; a quiet view is confirmed every
two seconds."""
_LOOK_SECONDS = 0.05


class _Asked(BaseModel):
    permissions: list[str] = Field(default=[], max_length=100)


def counter_of(full_name: str) -> str:
    """The generation counter of a resource's policy: never reset, so that a late fact is recognised."""
    return f"policy {full_name}"


@dataclass(frozen=True)
class Policies:
    """The IAM policies of the resources that one service owns, in its own state and said on `state.policy`."""

    state: State
    keys: Keys
    outbox: Outbox
    directory: Directory
    counter: Callable[[str], str] = counter_of
    """The generation counter of a resource's policy. The owner's own steps that say such a fact must count the same."""

    async def of(self, full_name: str) -> PolicyState | None:
        """The policy of a resource; None when none was ever set."""
        stored = await self.state.value(self.key(full_name))
        return PolicyState.model_validate_json(stored) if stored else None

    def key(self, full_name: str) -> str:
        """The state key that holds the policy of a resource."""
        return self.keys.of(project_in(full_name), "policy", full_name)

    def knows_role(self, role: str) -> bool:
        """Whether a role can be given."""
        return self.directory.role(role) is not None

    def first(self, policy: PolicyState) -> tuple[Check, Write]:
        """For the step that makes a resource: its first policy. The step announces `policy` beside it."""
        key = self.key(policy.full_name)
        return ValueIs(key, None), Put(key, policy.model_dump_json())

    def gone(self, full_name: str) -> tuple[Write, PolicyState]:
        """For the step that deletes a resource: its policy goes too, and the step announces that."""
        fact = PolicyState(project=project_in(full_name), full_name=full_name, deleted=True)
        return Drop(self.key(full_name)), fact

    def told(self, policy: PolicyState | None) -> dict[str, Any]:
        """A policy as it is answered."""
        return policy_json(policy, self.directory)

    async def set(self, request: web.Request, full_name: str) -> PolicyState:
        """Do what a setIamPolicy request asks for. Raises InvalidArgument, Aborted, Unavailable."""
        call, body = call_of(request), await json_body(request)
        await self._heard_of(addresses_in(body), call.counter.clock)
        stored = await self.state.value(self.key(full_name))
        policy = self._changed(stored, full_name, body)
        activity = call.activity(project=policy.project, resource=full_name, request=body, response=self.told(policy))
        step = Step(
            partition=partition_of(policy.project),
            request=f"{call.id}:policy",
            checks=(ValueIs(self.key(full_name), stored),),
            writes=(Put(self.key(full_name), policy.model_dump_json()),),
            drafts=self.outbox.drafts([policy, activity], call.cause),
            counter=self.counter(full_name),
        )
        done = await self.state.apply(step)
        self.directory.learn(policy, done.generation)
        return policy

    async def _heard_of(self, addresses: frozenset[str], clock: Clock) -> None:
        """Wait a moment for accounts that identity has only just made; a view that lags behind cannot refuse any."""
        until = clock.monotonic() + HEARING_SECONDS
        while (unknown := missing(addresses, self.directory)) and clock.monotonic() < until:
            await clock.sleep(_LOOK_SECONDS)
        if unknown and self.directory.behind(HEARING_SECONDS):
            raise Unavailable("What is known here of service accounts lags behind.", retry_after=5)

    def _changed(self, stored: str | None, full_name: str, body: dict[str, Any]) -> PolicyState:
        current = PolicyState.model_validate_json(stored) if stored else None
        try:
            return changed_policy(current, full_name, body, self.knows_role, self.directory)
        except PolicyInvalid as error:
            raise InvalidArgument(str(error)) from error
        except PolicyMoved as error:
            message = "There were concurrent policy changes. Please retry the whole read-modify-write with backoff."
            raise Aborted(message) from error


@dataclass(frozen=True)
class Guarded:
    """A kind of resource that has IAM policies."""

    path: str
    """Of one such resource, in aiohttp's form; its last place must not match a colon: `{repository:[^/:]+}`."""
    permission: str
    """What the three permissions begin with: `artifactregistry.repositories`."""
    method: str
    """What the method names in audit entries begin with: `google.devtools.artifactregistry.v1.ArtifactRegistry`."""
    exists: Callable[[web.Request], Awaitable[None]]
    """Raises NotFound when there is no such resource."""
    resource: Resource | None = None
    """The resource's full name; None: as the path says."""


def iam_routes(policies: Policies, guarded: Guarded) -> list[Route]:
    """The routes for the policies of one kind of resource; they stand before the route of the resource itself."""
    resource = guarded.resource or resource_of(guarded.path)
    if resource is None:
        raise ValueError(f"no resource in {guarded.path}")
    get, change, test = _get(policies, guarded, resource), _set(policies, guarded, resource), _test(guarded, resource)
    reading = f"{guarded.permission}.getIamPolicy", resource, f"{guarded.method}.GetIamPolicy"
    writing = f"{guarded.permission}.setIamPolicy", resource, f"{guarded.method}.SetIamPolicy"
    testing = Route(
        "POST",
        f"{guarded.path}:testIamPermissions",
        test,
        "",
        resource,
        audit=Audit.NONE,
        open_because="it tells callers their own permissions",
    )
    return [
        Route("GET", f"{guarded.path}:getIamPolicy", get, *reading, Audit.ADMIN_READ),
        Route("POST", f"{guarded.path}:getIamPolicy", get, *reading, Audit.ADMIN_READ),
        Route("POST", f"{guarded.path}:setIamPolicy", change, *writing, Audit.ADMIN_WRITE),
        testing,
    ]


def _get(policies: Policies, guarded: Guarded, resource: Resource) -> Handler:
    async def get_policy(request: web.Request) -> web.Response:
        await guarded.exists(request)
        return json_answer(policies.told(await policies.of(resource(request))))

    return get_policy


def _set(policies: Policies, guarded: Guarded, resource: Resource) -> Handler:
    async def set_policy(request: web.Request) -> web.Response:
        await guarded.exists(request)
        return json_answer(policies.told(await policies.set(request, resource(request))))

    return set_policy


def _test(guarded: Guarded, resource: Resource) -> Handler:
    async def test_permissions(request: web.Request) -> web.Response:
        asked = _asked(await json_body(request))
        call, name = call_of(request), resource(request)
        held = [permission for permission in asked if await call.may(permission, name)]
        if held:  # who holds nothing there does not learn whether there is anything
            await guarded.exists(request)
        return json_answer({"permissions": held} if held else {})

    return test_permissions


def _asked(body: dict[str, Any]) -> list[str]:
    names = validated(_Asked, body).permissions
    if any("*" in name for name in names):
        raise InvalidArgument("Permissions with a star cannot be tested.")
    return names
