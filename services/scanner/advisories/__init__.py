"""Advisories: what is known of vulnerable packages, brought in OSV form and kept as snapshots."""
