"""Where an image can lie (a registry, an OCI layout, archives), and copying from one place to another."""
