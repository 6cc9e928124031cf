"""The scanner's HTTP face: Container Analysis v1 as far as it is here, and the import of advisories."""
