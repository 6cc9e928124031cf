"""The organisation that all projects lie in: one, made at the first start; it has a policy like any resource."""

from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from shared.http.call import call_of
from shared.http.errors import NotFound
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer

_METHOD: Final = "google.cloud.resourcemanager.v3.Organizations"
_ONE: Final = "/organizations/{organization:[^/:]+}"


@dataclass(frozen=True)
class OrganizationsFace:
    """`organizations` of cloudresourcemanager."""

    policies: Policies
    organization: str
    """`organizations/1`."""

    def routes(self) -> list[Route]:
        """The same in both versions, but for how search is asked."""
        found: list[Route] = []
        for version in ("/v1", "/v3"):
            guarded = Guarded(version + _ONE, "resourcemanager.organizations", _METHOD, self.exists)
            get = "resourcemanager.organizations.get"
            found += iam_routes(self.policies, guarded)
            found.append(Route("GET", version + _ONE, self.get, get, method=f"{_METHOD}.GetOrganization"))
            for verb in ("GET", "POST"):
                path = f"{version}/organizations:search"
                found.append(Route(verb, path, self.search, "", audit=Audit.NONE, open_because=_LISTS))
        return found

    async def exists(self, request: web.Request) -> None:
        """Raises NotFound."""
        if f"organizations/{request.match_info['organization']}" != self.organization:
            raise NotFound("There is no such organization.")

    async def get(self, request: web.Request) -> web.Response:
        """The organisation."""
        await self.exists(request)
        return json_answer(self._told())

    async def search(self, request: web.Request) -> web.Response:
        """The organisation, for who may see it."""
        seen = await call_of(request).may("resourcemanager.organizations.get", self.organization)
        return json_answer({"organizations": [self._told()]} if seen else {})

    def _told(self) -> dict[str, Any]:
        return {
            "name": self.organization,
            "displayName": "entrepot",
            "state": "ACTIVE",
            "lifecycleState": "ACTIVE",
            "directoryCustomerId": self.organization.partition("/")[2],
        }


_LISTS: Final = "it lists what the caller may see, and nothing to others"
