"""Runs: one cleaning of one repository."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Run(BaseModel):
    """A run, as it is kept and as it is shown."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    id: str
    name: str
    state: Literal["PLANNED", "RUNNING", "DONE"]
    """PLANNED: a dry run, nothing was asked for. DONE: all that was asked for is settled."""
    dry_run: bool = False
    count: int = 0
    """Versions that would go, or are to go."""
    size_bytes: int = 0
    more: bool = False
    """There was more than one run asks for at a time; the next one goes on."""
    deleted: int = 0
    spared: int = 0
    """Versions that their owner kept: changed since, or held by something."""
    reason: str = ""
    """Why it is not known what became of them."""
    plan_object: str = ""
    started: str
    finished: str = ""

    def stored(self) -> str:
        """The run as it is kept."""
        return self.model_dump_json(by_alias=True, exclude_defaults=True)

    def json_data(self) -> dict[str, Any]:
        """The run as the face answers it."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
