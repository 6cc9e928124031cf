"""What container clients need to know of the suite: the credential program that they ask, and their settings."""
