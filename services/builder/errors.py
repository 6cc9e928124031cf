"""What can be wrong with a build, in the field's words."""


class BuildfileInvalid(ValueError):
    """The build that was asked for is not one: the message names the field."""


class SubstitutionInvalid(BuildfileInvalid):
    """A substitution is used that is not defined, or defined and not used."""


class NoRuntime(Exception):
    """No container runtime works here; the message says what was tried and what would help."""


class ImageUnavailable(Exception):
    """A step's image cannot be pulled; the message says which and why."""


class LayerRefused(Exception):
    """A layer of a step's image is hostile or broken: a path that leaves the root, a bomb, a damaged archive."""


class SourceInvalid(Exception):
    """The build's source is missing, too large or not an archive."""


class PushFailed(Exception):
    """An image that the build names was not made, or the registry refused it."""
