"""The builder runs builds as steps in containers and pushes what they make, by digest.

Hears: build.requested.
Says: build.requested, build.started, build.step.finished, build.finished, build.cancelled, build.log.
Keeps: build records (state); build requests, sources, logs and provenance (bucket, `builder/`).
"""
