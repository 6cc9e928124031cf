"""Sinks: what leaves the log for somewhere else, by filter."""

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from services.audit_log.filters import parse

SINK_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_BUCKET = re.compile(r"storage\.googleapis\.com/[a-z0-9][a-z0-9._-]{1,221}")


class Exclusion(BaseModel):
    """Entries that a sink leaves out."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    name: str = Field(max_length=100)
    description: str = ""
    filter: str
    disabled: bool = False

    @field_validator("filter")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse(text)
        return text


class Sink(BaseModel):
    """A LogSink: NDJSON objects in the bucket, each announced by `log.exported`."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    name: str
    destination: str
    filter: str = ""
    description: str = Field(default="", max_length=8000)
    disabled: bool = False
    exclusions: tuple[Exclusion, ...] = Field(default=(), max_length=50)
    resource_name: str = ""
    create_time: str = ""
    update_time: str = ""
    writer_identity: str = ""

    @field_validator("name")
    @classmethod
    def _name(cls, text: str) -> str:
        if not SINK_ID.fullmatch(text):
            raise ValueError("a sink's name has 1 to 100 letters, digits, dashes, dots and underscores")
        return text

    @field_validator("destination")
    @classmethod
    def _destination(cls, text: str) -> str:
        if not _BUCKET.fullmatch(text):
            raise ValueError("the one kind of destination here is storage.googleapis.com/NAME: objects in the bucket")
        return text

    @field_validator("filter")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse(text)
        return text

    def json_data(self) -> dict[str, object]:
        """As the REST face answers it."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def export_object(project: str, sink: str, first: int, last: int) -> str:
    """The object of one batch; sorts by time."""
    return f"audit/export/{project}/{sink}/{first:012d}-{last:012d}.ndjson"
