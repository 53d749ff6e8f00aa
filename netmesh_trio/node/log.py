"""The log ``netmesh_trio``: what happens to a node, for the standard library's :mod:`logging`."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from ..events import PathReport
from ..identity import PeerId

if TYPE_CHECKING:
    Adapter = logging.LoggerAdapter[logging.Logger]
else:
    Adapter = logging.LoggerAdapter  # not subscriptable before Python 3.11

__all__ = ["NodeLog"]


class NodeLog(Adapter):
    """Gives every record ``node``, ``peer`` and ``path``: whose log it is, with whom, and how; "-" for none."""

    def __init__(self, node: PeerId) -> None:
        super().__init__(logging.getLogger("netmesh_trio"), {})
        self._node = str(node)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Turn the arguments ``peer`` and ``path`` into fields of the record."""
        peer: PeerId | None = kwargs.pop("peer", None)
        path: PathReport | None = kwargs.pop("path", None)
        kwargs["extra"] = {
            "node": self._node,
            "peer": "-" if peer is None else str(peer),
            "path": "-" if path is None else path.route,
        }
        return msg, kwargs
