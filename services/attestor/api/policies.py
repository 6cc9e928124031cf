"""The admission policy of a project over HTTP, and the system policy."""

from aiohttp import web

from services.attestor.api.attestors import SERVICE
from services.attestor.policy import ALLOW_ALL, SYSTEM_POLICY, Policy
from services.attestor.store import Store
from shared.clock import Clock, rfc3339
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.etags import etag_of, require_etag
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.state import Change

PATH = "/v1/projects/{project}/policy"
PERMISSION = "binaryauthorization.policy"
SYSTEM = "google.cloud.binaryauthorization.v1.SystemPolicyV1.GetSystemPolicy"


class PoliciesApi:
    """`projects.getPolicy`, `projects.updatePolicy` and `systempolicy.getPolicy`."""

    def __init__(self, store: Store, policies: Policies, clock: Clock) -> None:
        self._store = store
        self._policies = policies
        self._clock = clock

    def routes(self) -> list[Route]:
        """All routes about policies."""
        guarded = Guarded(PATH, PERMISSION, SERVICE, _always, _resource)
        return [
            *iam_routes(self._policies, guarded),
            Route("GET", PATH, self.get, f"{PERMISSION}.get", _resource, f"{SERVICE}.GetPolicy"),
            Route(
                "PUT",
                PATH,
                self.update,
                f"{PERMISSION}.update",
                _resource,
                f"{SERVICE}.UpdatePolicy",
                Audit.ADMIN_WRITE,
            ),
            Route(
                "GET",
                "/v1/locations/{location}/policy",
                self.system,
                "",
                method=SYSTEM,
                audit=Audit.NONE,
                open_because="it is the same for everybody and says nothing about anybody",
            ),
        ]

    async def get(self, request: web.Request) -> web.Response:
        """The policy, or the one that holds where none was set."""
        project = request.match_info["project"]
        kept = await self._store.policy(project)
        return json_answer((kept.thing if kept else _default(project)).json_data())

    async def update(self, request: web.Request) -> web.Response:
        """Set the policy whole."""
        project, call = request.match_info["project"], call_of(request)
        wanted = await json_body(request, Policy)
        before = await self._store.policy(project)
        require_etag(wanted.etag, (before.thing if before else _default(project)).etag)
        after = _stamped(wanted, project, rfc3339(self._clock.now()))
        events = [call.activity(project=project, resource=after.name, request={"policy": after.json_data()})]
        await self._store.put_policy(project, after, before, Change(f"{call.id}/policy", call.cause, events))
        return json_answer(after.json_data())

    async def system(self, request: web.Request) -> web.Response:
        """Google's list of system images; ours is empty."""
        name = f"locations/{request.match_info['location']}/policy"
        return json_answer(SYSTEM_POLICY.model_copy(update={"name": name}).json_data())


async def _always(request: web.Request) -> None:
    """Every project has a policy, set or not."""
    del request


def _resource(request: web.Request) -> str:
    return f"projects/{request.match_info['project']}/policy"


def _default(project: str) -> Policy:
    return _stamped(ALLOW_ALL, project, "")


def _stamped(policy: Policy, project: str, now: str) -> Policy:
    unstamped = policy.model_copy(update={"name": f"projects/{project}/policy", "update_time": now, "etag": ""})
    return unstamped.model_copy(update={"etag": etag_of(unstamped.json_data())})
