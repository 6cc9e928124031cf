"""How Google's JSON is read and written here: camel case, nothing unknown, empty things left out."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Wire(BaseModel):
    """A message of the REST face. Unknown fields are refused, as Google's servers refuse them."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def json_data(self) -> dict[str, Any]:
        """The message as JSON-ready data, without what is empty by default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
