"""What the demo tells, and what not any more."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

from netmesh_trio.cli.demo_view import DemoView
from netmesh_trio.cli.output import Reporter
from netmesh_trio.events import PathKind, PathReport
from netmesh_trio.identity import Identity
from netmesh_trio.traversal import NatType, PunchFailedError

ID = Identity(bytes(32)).peer_id


def test_a_failure_with_the_nat_that_the_peer_has_left_is_not_told() -> None:
    def failure() -> PunchFailedError:
        return PunchFailedError("NAT here symmetric, NAT of the peer symmetric: no direct path")

    out = io.StringIO()
    view = DemoView(Reporter(stdout=out), cast(Any, None))
    peer = SimpleNamespace(path=PathReport(kind=PathKind.RELAYED, via=ID), why_not_direct=failure())
    known = NatType.SYMMETRIC
    node = SimpleNamespace(peer_id=ID, peer_nat_type=lambda _: known)
    view.joined("bob", cast(Any, node), "in a cafe")
    view.watch(cast(Any, node), cast(Any, node), cast(Any, peer))
    assert out.getvalue().count("it stays on the relay") == 1
    view.moved("bob", "at home")
    peer.why_not_direct = failure()
    view.look()
    assert out.getvalue().count("it stays on the relay") == 1
    known = NatType.CONE  # it has told where it is now
    peer.why_not_direct = PunchFailedError("nothing came")
    view.look()
    assert out.getvalue().count("it stays on the relay") == 2
