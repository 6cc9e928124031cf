"""Where steps run: a container per step, in the runtime that was found to work here."""

from services.builder.sandbox.cgroups import Limits
from services.builder.sandbox.face import Mount, Running, Sandbox, StepSpec
from services.builder.sandbox.network import Network
from services.builder.sandbox.users import Users

__all__ = ["Limits", "Mount", "Network", "Running", "Sandbox", "StepSpec", "Users"]
