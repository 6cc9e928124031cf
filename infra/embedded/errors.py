"""Why the suite does not start, in sentences for the person at the terminal."""


class CannotStart(Exception):
    """The suite was not started; the message says what to do about it."""
