"""Settings of a whole project: how names of Container Registry are read, and the policy for remote repositories."""

from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.registry.api.google.places import LOCATION, Places, read, write
from services.registry.project_settings import ProjectSettings
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import FailedPrecondition
from shared.http.masks import check_paths, field_mask
from shared.http.routes import Route
from shared.http.translation import json_answer

_REDIRECTION = "REDIRECTION_FROM_GCR_IO_FINALIZED"
"""`HOST/PROJECT/IMAGE` always means the repository `gcr.io` here; there is no Container Registry to go back to."""


class ProjectSettingsBody(BaseModel):
    """A project's settings as clients write them."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = ""
    redirection: str = Field("", alias="legacyRedirectionState")
    pull_percent: int = Field(0, alias="pullPercent", ge=0, le=100)


class VpcscBody(BaseModel):
    """The policy for remote repositories as clients write it."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = ""
    policy: Literal["DENY", "ALLOW"] = Field(alias="vpcscPolicy")


@dataclass(frozen=True)
class ProjectFace:
    """Answers for `projectSettings` and `vpcscConfig`."""

    places: Places
    settings: ProjectSettings

    def routes(self) -> list[Route]:
        """Its paths."""
        settings, vpcsc = "/v1/projects/{project}/projectSettings", f"{LOCATION}/vpcscConfig"
        return [
            read(settings, self.get, "projectsettings.get", "GetProjectSettings"),
            write("PATCH", settings, self.patch, "projectsettings.update", "UpdateProjectSettings"),
            read(vpcsc, self.vpcsc, "vpcscconfigs.get", "GetVPCSCConfig"),
            write("PATCH", vpcsc, self.patch_vpcsc, "vpcscconfigs.update", "UpdateVPCSCConfig"),
        ]

    async def get(self, request: web.Request) -> web.Response:
        """The project's settings."""
        return json_answer(self._json(request))

    async def patch(self, request: web.Request) -> web.Response:
        """Names of Container Registry have one meaning here, and asking for another is refused."""
        body = await json_body(request, ProjectSettingsBody)
        check_paths(field_mask(request), ("name", "legacyRedirectionState", "pullPercent"))
        if body.redirection not in ("", _REDIRECTION):
            raise FailedPrecondition(
                "legacyRedirectionState: HOST/PROJECT/IMAGE always means the project's repository gcr.io here."
            )
        call_of(request).changed_nothing()
        return json_answer(self._json(request))

    async def vpcsc(self, request: web.Request) -> web.Response:
        """Whether remote repositories of the project may ask their upstreams."""
        project = self.places.here(request)
        return json_answer(self._vpcsc(project, await self.settings.vpcsc(project)))

    async def patch_vpcsc(self, request: web.Request) -> web.Response:
        """Change that."""
        project, body = self.places.here(request), await json_body(request, VpcscBody)
        check_paths(field_mask(request), ("name", "vpcscPolicy"))
        act = self.places.act(request, "UpdateVPCSCConfig", "vpcscconfigs.update")
        await self.settings.set_vpcsc(project, body.policy, act)
        return json_answer(self._vpcsc(project, body.policy))

    def _json(self, request: web.Request) -> dict[str, Any]:
        name = f"projects/{request.match_info['project']}/projectSettings"
        return {"name": name, "legacyRedirectionState": _REDIRECTION, "pullPercent": 100}

    def _vpcsc(self, project: str, policy: str) -> dict[str, str]:
        location = self.places.registry.voice.location
        return {"name": f"projects/{project}/locations/{location}/vpcscConfig", "vpcscPolicy": policy}
