"""The benchmark: our registry beside Debian's docker-registry in one run, in CPU seconds, `./task bench`."""
