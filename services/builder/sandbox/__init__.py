"""Where steps run: a container per step, in the runtime that was found to work here."""

from services.builder.sandbox.face import Mount, Running, Sandbox, StepSpec

__all__ = ["Mount", "Running", "Sandbox", "StepSpec"]
