"""Artifact Registry's v1 API, one file for each kind of thing it shows."""
