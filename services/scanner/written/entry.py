"""The small record of a note or an occurrence that somebody wrote."""

from pydantic import BaseModel, ConfigDict


class Entry(BaseModel):
    """A note or an occurrence, as far as lists ask for it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    object: str
    """Where its content lies; another one after each change."""
    note: str = ""
    """Of an occurrence: `projects/P/notes/N`."""
    path: str = ""
    """Of an occurrence: what its resource URI says behind the host."""
    severity: str = ""
    size: int = 0
    """Of an occurrence: the bytes of its content; 0: it was written when these were not counted."""
    created: str = ""
    updated: str = ""

    def place(self, own: str) -> str:
        """Where it stands in its list: occurrences by what they are about, then by id."""
        return f"{self.path}\n{own}"
