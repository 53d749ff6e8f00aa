"""The one error of everything that reads bytes."""

from __future__ import annotations

__all__ = ["DecodeError"]


class DecodeError(ValueError):
    """Bytes that are not what they should be.  Never reaches a program: the packet is dropped and counted."""
