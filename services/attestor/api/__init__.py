"""The attestor's HTTP face: Binary Authorization's v1 REST, and the webhook that Kubernetes asks."""
