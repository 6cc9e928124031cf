"""The scanner: which packages images hold, and which advisories speak of them.

Hears image.pushed, image.deleted, scan.requested, advisory.updated and attestation.created.
Says scan.completed, vulnerability.opened, vulnerability.closed, advisory.updated, note.changed and occurrence.changed.
Keeps layer facts, inventories, advisories, findings and what callers wrote as objects below `scanner/`; small records.
"""
