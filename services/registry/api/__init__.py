"""The registry's faces: OCI distribution under `/v2/`, Artifact Registry's API under `/v1/`."""
