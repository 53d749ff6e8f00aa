"""UPnP: the Internet gateway devices of version 1 and 2."""

from __future__ import annotations

from .client import UpnpClient

__all__ = ["UpnpClient"]
