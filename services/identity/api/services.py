"""Which APIs a project has, as serviceusage v1 tells it: all of them, always. Clients ask before they go on."""

from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from services.identity.api.names import Names
from shared.http.call import call_of
from shared.http.errors import NotFound
from shared.http.operations import finished
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer

_ALL: Final = "/v1/projects/{project}/services"
_ONE: Final = _ALL + "/{service:[^/:]+}"
_METHOD: Final = "google.api.serviceusage.v1.ServiceUsage"
_TYPE: Final = "google.api.serviceusage.v1.EnableServiceResponse"
_APIS: Final = (
    "artifactregistry", "binaryauthorization", "cloudapis", "cloudbuild", "cloudresourcemanager", "containeranalysis",
    "containerscanning", "iam", "iamcredentials", "logging", "ondemandscanning", "secretmanager", "serviceusage",
)  # fmt: skip


@dataclass(frozen=True)
class ServicesFace:
    """`services` of serviceusage."""

    names: Names

    def routes(self) -> list[Route]:
        """Reading, and an enabling that changes nothing."""

        def route(verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
            kind = Audit.ADMIN_READ if verb == "GET" else Audit.ADMIN_WRITE
            permission = f"serviceusage.services.{permission}"
            return Route(verb, path, handler, permission, self.names.project_resource, f"{_METHOD}.{method}", kind)

        return [
            route("POST", f"{_ONE}:enable", self.enable, "enable", "EnableService"),
            route("GET", _ALL, self.list, "list", "ListServices"),
            route("GET", _ONE, self.get, "get", "GetService"),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """All APIs that are here."""
        return json_answer({"services": [self._told(request, f"{name}.googleapis.com") for name in _APIS]})

    async def get(self, request: web.Request) -> web.Response:
        """One API. Raises NotFound for one that is not here."""
        return json_answer(self._service(request))

    async def enable(self, request: web.Request) -> web.Response:
        """It is enabled already."""
        call_of(request).changed_nothing()
        return json_answer(finished("operations/noop.DONE_OPERATION", {"service": self._service(request)}, _TYPE))

    def _service(self, request: web.Request) -> dict[str, Any]:
        name = request.match_info["service"]
        if name.removesuffix(".googleapis.com") not in _APIS:
            raise NotFound(f"There is no service {name[:100]} here.")
        return self._told(request, name)

    def _told(self, request: web.Request, name: str) -> dict[str, Any]:
        parent = self.names.project_resource(request)
        return {"name": f"{parent}/services/{name}", "config": {"name": name}, "parent": parent, "state": "ENABLED"}
