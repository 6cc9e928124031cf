"""One folder per service; a service imports itself, `shared` and its libraries, never another service."""
