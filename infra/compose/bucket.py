"""Who may do what in the bucket: each service writes under its own prefixes and reads what its work needs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

BUCKET = "entrepot"
PROVISIONER = "provision"
"""Makes the bucket, and has no other use for it."""


@dataclass(frozen=True)
class Rights:
    """Prefixes of object names."""

    owns: Sequence[str]
    """Written, deleted, listed and read."""
    reads: Sequence[str] = ()


RIGHTS: Mapping[str, Rights] = {
    # What the others make, it attaches to images as referrers.
    "registry": Rights(("blobs/", "manifests/", "registry/", "uploads/"), ("attestor/", "builder/", "scanner/")),
    # A source archive is staged as an upload first.
    "builder": Rights(("builder/", "uploads/builder-")),
    "scanner": Rights(("scanner/",), ("blobs/", "manifests/", "attestor/", "builder/")),
    "attestor": Rights(("attestor/",), ("scanner/", "builder/")),
    "cleanup": Rights(("cleanup/",), ("manifests/",)),
    "audit_log": Rights(("audit/",)),
}
"""Identity keeps nothing in the bucket and has no account there."""


def access_key(service: str) -> str:
    """The name under which a service is known to the store; no secret."""
    return f"entrepot-{service.replace('_', '-')}"


def identities(secret_of: Callable[[str], str]) -> str:
    """The S3 server's list of accounts as it reads it; there is no anonymous one."""
    known = {service: _actions(rights) for service, rights in RIGHTS.items()}
    known[PROVISIONER] = [f"Admin:{BUCKET}", f"List:{BUCKET}"]
    listed = [
        {
            "name": service,
            "credentials": [{"accessKey": access_key(service), "secretKey": secret_of(service)}],
            "actions": actions,
        }
        for service, actions in known.items()
    ]
    return json.dumps({"identities": listed}, indent=1) + "\n"


def _actions(rights: Rights) -> list[str]:
    own = [f"{action}:{BUCKET}/{prefix}*" for prefix in rights.owns for action in ("Read", "Write", "List")]
    return own + [f"Read:{BUCKET}/{prefix}*" for prefix in rights.reads]
