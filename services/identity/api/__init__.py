"""Identity's HTTP faces: the token endpoint, and the parts of iam v1, iam v2 and cloudresourcemanager v1 and v3."""
