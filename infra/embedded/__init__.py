"""The whole suite on one machine by one command: the real servers and every service as child processes, on loopback."""
