"""Cleanup: which images may go by a repository's cleanup policies, and asking their owner to delete them.

Hears image.pushed, .untagged, .deleted, .pulled, referrer.attached, admission.decided and the state of repositories.
Says cleanup.planned, cleanup.requested, cleanup.completed and audit entries.
Keeps what it knows of versions, tags and runs in state, and plans under `cleanup/` in the bucket.
"""
