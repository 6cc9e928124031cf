"""The audit log's HTTP face: Cloud Logging's v2 REST for reading and sinks, and our own for proof."""
