"""Attestor: who vouches for an image, what a deployment needs, and the answer to whether it may run.

Hears image.pushed, image.untagged, image.deleted, scan.completed and occurrence.changed.
Says attestation.created, referrer.requested, admission.decided, state.policy and audit entries.
Keeps attestors, policies and image facts in state; signing keys and attestations under `attestor/` in the bucket.
"""
