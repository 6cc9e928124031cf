"""How a command fails: a sentence on standard error and a documented exit code."""

from typing import ClassVar


class Failed(Exception):
    """Something went wrong; the message is the sentence."""

    code: ClassVar[int] = 1


class Denied(Failed):
    """A policy says no."""

    code = 3


class NotAllowed(Failed):
    """The credentials are missing or wrong, or the account lacks the permission."""

    code = 4


class Missing(Failed):
    """There is no such thing."""

    code = 5
