"""Turns the events of a node into events of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    from netmesh_trio import Node

__all__ = ["watch"]


async def watch(node: Node, reporter: Reporter, ready: trio.Event) -> None:
    """Report what changes, from ``ready`` on, until cancelled."""
    async for event in node.events():
        await ready.wait()
        del event, reporter
