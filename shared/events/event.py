"""What every event is: a frozen record with a topic and a place."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from shared.names import subject_token

MAX_EVENT_BYTES = 64 * 1024


class Event(BaseModel):
    """Something that happened, and what is now true. Unknown fields of a newer producer are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    topic: ClassVar[str]
    stream: ClassVar[str] = "EVENTS"
    schema_version: ClassVar[int] = 1
    in_own_name: ClassVar[bool] = False
    """The first token behind the topic names the service that says it: none may say it in another's name."""

    project: str
    location: str = ""

    def resource(self) -> str:
        """The last token of the subject: what the event is about within its project and location."""
        return ""

    def subject(self) -> str:
        """The bus subject: topic, project, location, resource."""
        return ".".join((self.topic, *map(subject_token, (self.project, self.location, self.resource()))))

    def belongs_on(self, subject: str) -> bool:
        """Whether it is what would be said on that subject. Raises ValueError where it could be said nowhere."""
        return subject == self.subject()

    def data(self) -> dict[str, Any]:
        """The event as JSON-ready data; what is unset or empty by default is left out."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def content(self) -> bytes:
        """The same as JSON, written at once: on the way of every push there are several."""
        return self.__pydantic_serializer__.to_json(self, exclude_defaults=True)


class Job(Event):
    """A request to do something; exactly one service hears it, and its stream keeps it until that is done."""

    stream: ClassVar[str] = "JOBS"


class Fact(Event):
    """What is true of one thing now; the stream keeps the last word on each for ever."""

    stream: ClassVar[str] = "STATE"

    deleted: bool = False
    """The thing is gone; the fact stays as a tombstone."""
