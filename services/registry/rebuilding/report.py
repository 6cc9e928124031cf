"""What a rebuild did, and what it did not find."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """What a rebuild did, for whoever asked for it."""

    snapshot: str = ""
    """Its id; empty: there was none."""
    snapshot_time: str = ""
    rows: dict[str, int] = field(default_factory=dict[str, int])
    replayed: dict[str, int] = field(default_factory=dict[str, int])
    """Events by topic that were not in the snapshot."""
    known: int = 0
    """Events that were."""
    unreadable: int = 0
    facts: int = 0
    images: int = 0
    versions: int = 0
    missing_manifests: dict[str, str] = field(default_factory=dict[str, str])
    missing_blobs: dict[str, str] = field(default_factory=dict[str, str])
    gaps: dict[str, int] = field(default_factory=dict[str, int])
    """Numbers that never showed, by topic and project: what was said under them is in no record."""
    audit_numbers: str = "from the log"
    """Or why they could not be read."""

    @property
    def whole(self) -> bool:
        """Whether nothing is known to be missing."""
        return not (self.missing_manifests or self.missing_blobs or self.gaps or self.unreadable)
