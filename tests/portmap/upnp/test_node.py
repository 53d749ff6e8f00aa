"""A node whose router speaks UPnP only, and gives no leases: what it leaves behind would stay there for ever."""

from __future__ import annotations

import pytest
import trio

from netmesh_trio import Identity, NodeConfig, open_node
from netmesh_trio.events import PortMapChanged
from netmesh_trio.node.udp import KernelNetwork
from netmesh_trio.traversal.portmap import Gateway
from tests.portmap.upnp.scripted import Arguments, Results, Row, ScriptedRouter, open_router


class Home(KernelNetwork):
    """Loopback, with a router."""

    def __init__(self, router: ScriptedRouter) -> None:
        self._router = router

    def gateways(self) -> list[Gateway]:
        return [self._router.gateway]


def permanent_only(router: ScriptedRouter) -> None:
    def add(arguments: Arguments) -> Results:
        return 725 if arguments["NewLeaseDuration"] != "0" else router._AddPortMapping(arguments)

    router.actions["AddPortMapping"] = add


@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
async def test_a_permanent_mapping_goes_with_the_node(how: str) -> None:
    router = ScriptedRouter()
    permanent_only(router)
    async with open_router(router):
        with trio.fail_after(20), trio.CancelScope() as scope:
            try:
                config = NodeConfig(try_port_mapping=True)
                async with open_node(Identity.generate(), (router.local, 0), (), config, network=Home(router)) as node:
                    async for event in node.events():
                        if isinstance(event, PortMapChanged) and event.external is not None:
                            port = event.external.port
                            assert router.table == {port: Row(router.local, port, 0, "netmesh-trio")}
                            break
                    if how == "raise":
                        raise ValueError("of the program's own")
                    if how == "cancel":
                        scope.cancel()
                        await trio.sleep_forever()
            except ValueError:
                assert how == "raise"
        assert scope.cancelled_caught is (how == "cancel")
        assert router.table == {}


async def test_left_while_the_router_is_thinking_nothing_stays() -> None:
    router = ScriptedRouter()
    permanent_only(router)
    async with open_router(router):
        with trio.fail_after(20), trio.CancelScope() as scope:
            router.watch = lambda action: scope.cancel() if action == "AddPortMapping" else None
            config = NodeConfig(try_port_mapping=True)
            async with open_node(Identity.generate(), (router.local, 0), (), config, network=Home(router)):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert router.count("AddPortMapping") > 0
        assert router.table == {}
