"""What a project's owners set for all its repositories here."""

from dataclasses import dataclass

from services.registry.acts import Act, Change, Deed, Steps
from services.registry.store import Store
from services.registry.voice import Voice
from shared.state import FieldIs, PutField

_FIELD = "vpcsc"
ALLOW = "ALLOW"


@dataclass(frozen=True)
class ProjectSettings:
    """Reads and changes them; each change is one atomic step."""

    store: Store
    steps: Steps
    voice: Voice

    async def vpcsc(self, project: str) -> str:
        """Whether remote repositories may ask their upstreams: `ALLOW`, where nothing was set, or `DENY`."""
        return await self._set(project) or ALLOW

    async def set_vpcsc(self, project: str, policy: str, act: Act) -> None:
        """Change that."""

        async def decide() -> Change:
            resource = f"projects/{project}/locations/{self.voice.location}/vpcscConfig"
            key = self.store.layout.settings(project)
            return Change(
                project,
                "",
                checks=(FieldIs(key, _FIELD, await self._set(project)),),
                writes=(PutField(key, _FIELD, policy),),
                events=act.witness(Deed("", resource, "", {"vpcscPolicy": policy})),
            )

        await self.steps.make(act, decide)

    async def _set(self, project: str) -> str | None:
        return await self.store.state.field(self.store.layout.settings(project), _FIELD)
