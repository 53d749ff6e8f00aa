"""The client against a router of our own that behaves as routers do; hostile ones are in test_hostile.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from netmesh_trio import Address
from netmesh_trio.traversal.portmap import PortMapCause, PortMapError, PortMapping, RouterStatus
from netmesh_trio.traversal.portmap.upnp import UpnpClient
from tests.node.test_cancellation import cancelled_at
from tests.portmap.upnp.descriptions import IGD2, igd, service
from tests.portmap.upnp.scripted import Arguments, Results, Row, ScriptedRouter, open_router

PORT = 4650


async def mapped(client: UpnpClient, previous: PortMapping | None = None) -> PortMapping:
    with trio.fail_after(10):
        return await client.map(internal_port=PORT, external_port=PORT, lifetime=600, previous=previous)


async def refused(client: UpnpClient) -> PortMapError:
    with pytest.raises(PortMapError) as caught:
        await mapped(client)
    assert caught.value.protocol == "upnp"
    return caught.value


async def test_map_renew_and_unmap(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter()) as router:
        client = router.client()
        assert client.protocol == "upnp"
        assert client.gateway == router.gateway
        status = RouterStatus(protocol="upnp", external="8.9.10.11", description="A router, A maker, A model")
        assert await client.status() == status
        assert router.table == {}

        mapping = await mapped(client)
        assert mapping == PortMapping(
            protocol="upnp",
            gateway=router.gateway,
            internal=Address(router.local, PORT),
            external=Address("8.9.10.11", PORT),
            lifetime=600,
        )
        assert router.table == {PORT: Row(router.local, PORT, 600, "netmesh-trio")}

        router.external = "8.9.10.12"
        renewed = await mapped(client, mapping)
        assert renewed.external == Address("8.9.10.12", PORT)
        router.table.clear()  # as a reboot does
        assert await mapped(client, renewed) == renewed
        assert router.table.keys() == {PORT}

        await client.unmap()  # nothing is in doubt
        assert router.table.keys() == {PORT}
        await client.unmap(renewed)
        assert router.table == {}
        await client.unmap(renewed)
        # One search, and one description, for all of it.
        assert router.count("GET") == 1
    assert router.connections == 0


async def test_another_client_removes_it_too(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter()) as router:
        mapping = await mapped(router.client())
        await router.client().unmap(mapping)
        assert router.table == {}


async def test_the_port_of_a_previous_mapping_is_wanted_again(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter(table={PORT: Row("192.168.1.9", 1, 0)})) as router:
        client = router.client()
        mapping = await mapped(client)
        assert mapping.external.port == PORT + 1
        del router.table[PORT]
        assert (await mapped(client, mapping)).external.port == PORT + 1


def overwriting(router: ScriptedRouter) -> Callable[[Arguments], Results]:
    """AddPortMapping as of routers that let one host take away the port of another."""

    def add(arguments: Arguments) -> Results:
        router.table.pop(int(arguments["NewExternalPort"]), None)
        return router._AddPortMapping(arguments)

    return add


async def test_a_port_of_another_host_is_left_alone(idle_clock: MockClock) -> None:
    theirs = Row("192.168.1.9", PORT, 0)
    async with open_router(ScriptedRouter(table={PORT: theirs, PORT + 1: theirs})) as router:
        router.actions["AddPortMapping"] = overwriting(router)
        client = router.client()
        mapping = await mapped(client)
        assert mapping.external.port == PORT + 2
        assert router.table[PORT] is theirs

        # And where another takes ours away, it is theirs.
        router.table[PORT + 2] = theirs
        await client.unmap(mapping)
        assert router.table[PORT + 2] is theirs


async def test_another_port_of_our_own_host_is_left_alone(idle_clock: MockClock) -> None:
    router = ScriptedRouter()
    router.table[PORT] = Row(router.local, 9999, 0)
    async with open_router(router):
        assert (await mapped(router.client())).external.port == PORT + 1
        assert router.table[PORT].port == 9999


async def test_a_newer_router_chooses_a_port(idle_clock: MockClock) -> None:
    router = ScriptedRouter(description=IGD2)
    router.table[PORT] = Row("192.168.1.9", 1, 0)

    def add_any(arguments: Arguments) -> Results:
        assert router._AddPortMapping({**arguments, "NewExternalPort": "7777"}) == {}
        return {"NewReservedPort": "7777"}

    router.actions["AddAnyPortMapping"] = add_any
    async with open_router(router):
        client = router.client()
        mapping = await mapped(client)
        assert mapping.external.port == 7777
        assert router.table[7777].client == router.local
        assert await mapped(client, mapping) == mapping
        assert router.count("AddAnyPortMapping") == 1
        await client.unmap(mapping)
        assert 7777 not in router.table


@pytest.mark.parametrize("code", [401, 501, 602, 718])
async def test_a_newer_router_without_a_choice(code: int, idle_clock: MockClock) -> None:
    router = ScriptedRouter(description=IGD2, actions={"AddAnyPortMapping": lambda _: code})
    router.table[PORT] = Row("192.168.1.9", 1, 0)
    async with open_router(router):
        assert (await mapped(router.client())).external.port == PORT + 1


@pytest.mark.parametrize("code", [725, 402])
async def test_a_router_that_gives_no_leases(code: int, idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter()) as router:
        router.actions["AddPortMapping"] = lambda arguments: (
            code if arguments["NewLeaseDuration"] != "0" else router._AddPortMapping(arguments)
        )
        client = router.client()
        mapping = await mapped(client)
        assert mapping.lifetime == math.inf
        assert mapping.is_permanent
        assert router.table[PORT].lease == 0
        assert router.count("AddPortMapping") == 2
        # It is known by now.
        assert (await mapped(client, mapping)).is_permanent
        assert router.count("AddPortMapping") == 3
        await client.unmap(mapping)
        assert router.table == {}


async def test_a_router_that_gives_another_lease(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter()) as router:
        router.actions["AddPortMapping"] = lambda arguments: router._AddPortMapping(
            {**arguments, "NewLeaseDuration": "120"}
        )
        assert (await mapped(router.client())).lifetime == 120


async def test_a_router_that_wants_the_same_port_inside_and_outside(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter()) as router:
        router.actions["AddPortMapping"] = lambda arguments: (
            724 if arguments["NewExternalPort"] != arguments["NewInternalPort"] else router._AddPortMapping(arguments)
        )
        mapping = await router.client().map(internal_port=PORT, external_port=5000, lifetime=600)
        assert mapping.external.port == PORT
        router.table[PORT] = Row("192.168.1.9", 1, 0)
        assert (await refused(router.client())).cause is PortMapCause.CONFLICT


@pytest.mark.parametrize(
    ("code", "cause", "times"),
    [
        (718, PortMapCause.CONFLICT, 6),
        (729, PortMapCause.CONFLICT, 6),
        (501, PortMapCause.REFUSED, 6),
        (606, PortMapCause.REFUSED, 6),
        (402, PortMapCause.UNSUPPORTED, 2),
        (725, PortMapCause.UNSUPPORTED, 2),
        (727, PortMapCause.UNSUPPORTED, 1),
        (728, PortMapCause.OUT_OF_RESOURCES, 1),
        (732, PortMapCause.UNSUPPORTED, 1),
        (401, PortMapCause.UNSUPPORTED, 1),
    ],
)
async def test_a_router_that_never_agrees(code: int, cause: PortMapCause, times: int, idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter(actions={"AddPortMapping": lambda _: code})) as router:
        error = await refused(router.client())
        assert error.cause is cause
        assert str(code) in str(error)
        assert router.count("AddPortMapping") == times


async def test_a_router_that_does_not_renew_what_is_there(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter()) as router:
        router.actions["AddPortMapping"] = lambda arguments: (
            718 if int(arguments["NewExternalPort"]) in router.table else router._AddPortMapping(arguments)
        )
        client = router.client()
        mapping = await mapped(client)
        assert await mapped(client, mapping) == mapping
        assert router.table.keys() == {PORT}


async def test_a_router_that_does_not_tell_its_table(idle_clock: MockClock) -> None:
    router = ScriptedRouter(actions={"GetSpecificPortMappingEntry": lambda _: 401})
    async with open_router(router):
        client = router.client()
        mapping = await mapped(client)
        assert (mapping.external.port, mapping.lifetime) == (PORT, 600)
        await client.unmap(mapping)
        assert router.table == {}


async def test_a_router_that_agrees_and_does_nothing(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter(actions={"AddPortMapping": lambda _: {}})) as router:
        assert (await refused(router.client())).cause is PortMapCause.MALFORMED


async def test_a_router_that_keeps_the_mapping_disabled(idle_clock: MockClock) -> None:
    router = ScriptedRouter()

    def add(arguments: Arguments) -> Results:
        results = router._AddPortMapping(arguments)
        router.table[PORT].enabled = False
        return results

    router.actions["AddPortMapping"] = add
    async with open_router(router):
        client = router.client()
        assert (await refused(client)).cause is PortMapCause.REFUSED
        assert router.table.keys() == {PORT}
        await client.unmap()
        assert router.table == {}


async def test_a_router_that_gives_the_port_to_another_as_well(idle_clock: MockClock) -> None:
    router = ScriptedRouter()
    theirs = Row("192.168.1.9", PORT, 0)

    def add(arguments: Arguments) -> Results:
        results = router._AddPortMapping(arguments)
        router.table[PORT] = theirs
        return results

    router.actions["AddPortMapping"] = add
    async with open_router(router):
        client = router.client()
        assert (await mapped(client)).external.port == PORT + 1
        await client.unmap()
        assert router.table[PORT] is theirs


@pytest.mark.parametrize("reserved", ["", "0", "65536", "many"])
async def test_a_reserved_port_that_is_none(reserved: str, idle_clock: MockClock) -> None:
    router = ScriptedRouter(description=IGD2, actions={"AddAnyPortMapping": lambda _: {"NewReservedPort": reserved}})
    router.table[PORT] = Row("192.168.1.9", 1, 0)
    async with open_router(router):
        assert (await refused(router.client())).cause is PortMapCause.MALFORMED


@pytest.mark.parametrize("connected", ["ip", "ppp"])
async def test_the_connection_that_is_up_is_used(connected: str, idle_clock: MockClock) -> None:
    description = igd(service("WANIPConnection:1", "/ip"), service("WANPPPConnection:1", "/ppp"))
    router = ScriptedRouter(description=description)

    def status(_: Arguments) -> Results:
        up = router.calls[-1][0] == f"/{connected}"
        return {"NewConnectionStatus": "Connected" if up else "Disconnected"}

    router.actions["GetStatusInfo"] = status
    async with open_router(router):
        await mapped(router.client())
        assert (f"/{connected}", "AddPortMapping") in router.calls
        assert {path for path, action in router.calls if action == "AddPortMapping"} == {f"/{connected}"}


@pytest.mark.parametrize("status", ["Disconnected", "Connecting", "Unconfigured", ""])
async def test_a_router_that_is_not_connected(status: str, idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter(status=status)) as router:
        client = router.client()
        assert (await refused(client)).cause is PortMapCause.NETWORK_FAILURE
        assert router.count("AddPortMapping") == 0
        router.status = "Connected"
        await mapped(client)


async def test_a_router_that_does_not_tell_whether_it_is_connected(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter(actions={"GetStatusInfo": lambda _: 501})) as router:
        await mapped(router.client())


@pytest.mark.parametrize(
    ("external", "cause"),
    [
        ("", PortMapCause.NETWORK_FAILURE),
        ("0.0.0.0", PortMapCause.NETWORK_FAILURE),
        ("none", PortMapCause.MALFORMED),
        ("8.9.10", PortMapCause.MALFORMED),
        ("8.9.10.11.12", PortMapCause.MALFORMED),
        ("2001:db8::1", PortMapCause.MALFORMED),
    ],
)
async def test_outside_addresses_that_are_none(external: str, cause: PortMapCause, idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter(external=external)) as router:
        assert (await refused(router.client())).cause is cause
        assert router.count("AddPortMapping") == 0


async def test_a_router_behind_another(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter(external="192.168.0.2")) as router:
        assert (await mapped(router.client())).external == Address("192.168.0.2", PORT)


async def test_a_router_without_such_a_service(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter(description=igd(service("Layer3Forwarding:1", "/x")))) as router:
        assert (await refused(router.client())).cause is PortMapCause.UNSUPPORTED


async def test_a_router_that_restarts_elsewhere(idle_clock: MockClock) -> None:
    router = ScriptedRouter()
    client = router.client()
    async with open_router(router):
        mapping = await mapped(client)
    router.port = 0
    router.table.clear()
    async with open_router(router):
        assert await mapped(client, mapping) == mapping
        assert router.count("GET") == 2
    router.port = 0
    async with open_router(router):
        await client.unmap(mapping)
        assert router.table == {}


async def test_no_router(idle_clock: MockClock) -> None:
    began = trio.current_time()
    assert (await refused(ScriptedRouter().client())).cause is PortMapCause.TIMEOUT
    assert trio.current_time() - began == pytest.approx(3, abs=0.1)


async def test_an_answer_that_is_lost(idle_clock: MockClock) -> None:
    router = ScriptedRouter()
    searches = 0

    def answers(target: str) -> list[bytes]:
        nonlocal searches
        searches += 1
        return [router.answer(target)] if searches > 2 else []

    router.answers = answers
    async with open_router(router):
        await mapped(router.client())
    assert searches == 4


@pytest.mark.parametrize("description", ["older", "newer"])
async def test_cancelled_anywhere_nothing_is_left(description: str, idle_clock: MockClock) -> None:
    router = ScriptedRouter()
    if description == "newer":
        router.description = IGD2
        router.table[PORT] = Row("192.168.1.9", 1, 0)

        def add_any(arguments: Arguments) -> Results:
            assert router._AddPortMapping({**arguments, "NewExternalPort": "7777"}) == {}
            return {"NewReservedPort": "7777"}

        router.actions["AddAnyPortMapping"] = add_any
    before = dict(router.table)
    left = k = 0
    async with open_router(router):
        for k in range(300):
            client = router.client()
            with trio.fail_after(20):
                cancelled = await cancelled_at(k, lambda client=client: mapped(client))  # type: ignore[misc]
            with trio.fail_after(1):  # what is under way gets there, or does not
                while router.connections:
                    await trio.sleep(0.001)
            if not cancelled:
                break
            left += router.table != before
            await client.unmap()
            assert router.table == before, f"cancelled at checkpoint {k}"
            mapping = await mapped(client)
            await client.unmap(mapping)
            assert router.table == before
        assert k > 20
        assert left > 0


async def test_cancelled_while_renewing_it_stays_until_it_is_removed(idle_clock: MockClock) -> None:
    async with open_router(ScriptedRouter()) as router:
        client = router.client()
        mapping = await mapped(client)
        with trio.CancelScope() as scope:
            router.watch = lambda action: scope.cancel() if action == "AddPortMapping" else None
            await mapped(client, mapping)
        assert scope.cancelled_caught
        router.watch = None
        assert router.table.keys() == {PORT}
        await client.unmap(mapping)
        await client.unmap()
        assert router.table == {}
