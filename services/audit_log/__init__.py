"""Audit log: who did what, where and when; kept in order, found again, exported, and hard to change unseen.

Hears audit.activity, audit.access, audit.system and audit.denied, and nothing else.
Says log.exported and audit entries about its own face.
Keeps the log as chained segments under `audit/` in the bucket, and sinks with their positions in state.
"""
