"""A ping by itself, with an echo in memory."""

from __future__ import annotations

import io
import json
from typing import Any, cast

import trio

from netmesh_trio.cli.options import NodeOptions
from netmesh_trio.cli.output import Reporter
from netmesh_trio.cli.ping import _Ping, echo
from netmesh_trio.events import PathKind, PathReport
from netmesh_trio.identity import Identity
from tests.cli.ideal import stream_pair

OPTIONS = NodeOptions(identity=None, bind=(), bootstrap=(), direct=True, network_key=None)


class YoungPeer:
    """One whose path is not known yet when the first ping leaves."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def path(self) -> PathReport | None:
        self.looks += 1
        return None if self.looks == 1 else PathReport(kind=PathKind.RELAYED, via=Identity(bytes(32)).peer_id)


async def test_a_ping_that_leaves_before_the_path_is_known() -> None:
    here, there = stream_pair()
    out = io.StringIO()
    ping = _Ping(Reporter(True, stdout=out), Identity(bytes(32)).peer_id, 1, 0, 5, False, OPTIONS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, there)
        assert not await ping._one(cast(Any, here), cast(Any, YoungPeer()), 1)
        await here.aclose()
    event = json.loads(out.getvalue())
    assert (event["kind"], event["via"]) == ("relayed", str(Identity(bytes(32)).peer_id))
