"""Files and trees over one stream: negotiated, resumable, verified, put in place atomically."""

from __future__ import annotations

from netmesh_trio.cli.transfer.errors import TransferError
from netmesh_trio.cli.transfer.outcome import Failure, Outcome, Progress
from netmesh_trio.cli.transfer.receiver import Limits, receive_files
from netmesh_trio.cli.transfer.sender import send_files
from netmesh_trio.cli.transfer.source import Source
from netmesh_trio.cli.transfer.storage import Store

__all__ = [
    "Failure",
    "Limits",
    "Outcome",
    "Progress",
    "Source",
    "Store",
    "TransferError",
    "receive_files",
    "send_files",
]
