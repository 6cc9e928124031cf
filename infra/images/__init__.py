"""Container images: how they are built, and the two small programs that every one of a service holds."""
