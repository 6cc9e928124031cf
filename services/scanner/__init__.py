"""The scanner: which packages images hold, and which advisories speak of them.

Hears image.pushed, image.deleted, scan.requested, advisory.updated and attestation.created.
Says scan.completed, vulnerability.opened, vulnerability.closed and advisory.updated.
Keeps layer facts, inventories, advisories and findings as objects below `scanner/`, and one small record per image.
"""
