"""The journal: what changes nothing (reads, denials, admission decisions) is written down here and told afterwards.

Such things have no atomic step, so the outbox is not for them. The journal is a numbered file of one replica, which is
a producer of its own: `/services/registry/<journal>`. Its sequences are gapless per topic and project like those of
the outbox; a gap means that a crash took what was noted last, or that a full journal dropped it.
"""

from shared.journal.face import Journal, JournalFull, JournalUnavailable

__all__ = ["Journal", "JournalFull", "JournalUnavailable"]
