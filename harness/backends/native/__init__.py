"""Run plans with a compiled engine on the CPU."""

from harness.backends.native.backend import NativeBackend, unavailable

__all__ = ["NativeBackend", "unavailable"]
