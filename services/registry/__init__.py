"""The registry: artifacts by name and digest, as OCI distribution and Artifact Registry's API show them.

Hears: referrer.requested, cleanup.requested.registry, and the facts that identity keeps.
Says: image.pushed, .untagged, .deleted, .pulled, referrer.attached, repository.changed, quota.near, state.repository,
gcr.
Keeps: repositories, tags and what refers to what in state; blobs, manifests and unfinished uploads in the bucket.
"""
