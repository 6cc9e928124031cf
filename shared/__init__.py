"""The contracts and the few things that every service needs; it knows no service."""
