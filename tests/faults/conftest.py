"""The platform that goes on while the server is in trouble."""

from tests.faults.asking import emulator

__all__ = ["emulator"]
