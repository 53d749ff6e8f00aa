"""``netmesh-trio netcheck``: what NAT this host is behind, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from netmesh_trio.cli.options import NodeOptions, node_options, timeout_option
from netmesh_trio.cli.output import Reporter

if TYPE_CHECKING:
    from netmesh_trio import Address, NatReport, Node
    from netmesh_trio.traversal import RouterReport

__all__ = ["meaning", "netcheck"]

# Seconds that the other bootstrap nodes have to answer, once one has.
_OTHERS = 2.0
# and for the lifetime of bindings
_PATIENCE = 660.0

_TYPES = {
    "open": "open: others see this node at an address of its own",
    "cone": "cone: behind a NAT, all others see this node at the same address",
    "symmetric": "symmetric: behind a NAT, each peer sees this node at another port or address",
    "unknown": "unknown: too few nodes have said where they see this one",
}
_FORWARDED = "open: what others send to the router's address is passed on to this node"
_MAPPING = {
    "endpoint-independent": "one outside address for all destinations (endpoint-independent)",
    "address-dependent": "one outside address for each destination host (address-dependent)",
    "address-and-port-dependent": "one outside address for each destination host and port (address-and-port-dependent)",
}
_FILTERING = {
    "endpoint-independent": "packets from anybody get in (endpoint-independent)",
    "address-dependent": "packets get in from hosts that were sent to (address-dependent)",
    "address-and-port-dependent": "packets get in from addresses and ports that were sent to "
    "(address-and-port-dependent)",
}


@click.command()
@timeout_option(10.0, "Seconds to wait for a bootstrap node to answer.")
@click.option(
    "--binding-lifetime",
    is_flag=True,
    help="Also find out how long the NAT remembers an idle binding; takes up to ten minutes.",
)
@node_options
@click.pass_obj
def netcheck(reporter: Reporter, timeout: float, binding_lifetime: bool, node: NodeOptions) -> int:
    """Tell what kind of NAT this host is behind.

    It takes two bootstrap nodes at different addresses to tell.  Whatever the NAT is, every peer is reached over the
    relay; netcheck says with whom direct paths are possible as well.

    \b
    Examples:
        netmesh-trio netcheck --bootstrap URI --bootstrap URI
    """
    from netmesh_trio.cli.runner import run_async

    if not node.bootstrap:
        raise click.UsageError("netcheck needs nodes to ask: give --bootstrap, best two of them")
    return run_async(reporter, lambda: _netcheck(reporter, timeout, node, patient=binding_lifetime))


async def _netcheck(reporter: Reporter, timeout: float, options: NodeOptions, *, patient: bool) -> bool:
    import trio

    from netmesh_trio.cli.progress import show_waiting
    from netmesh_trio.cli.runner import CommandError
    from netmesh_trio.cli.session import running_node

    async with running_node(options, reporter, timeout=timeout, brief=True, nat=False) as node:
        wanted = {uri.peer_id for uri in options.bootstrap} - {node.peer_id}
        with trio.move_on_after(_OTHERS):
            while not wanted <= {peer.peer_id for peer in node.peers() if peer.path}:  # noqa: ASYNC110 - bounded
                await trio.sleep(0.02)
        deadline = node.config.traversal.classify_deadline
        routers: list[RouterReport] = []

        async def ask_routers() -> None:
            routers.extend(await node.check_router())

        with show_waiting(reporter, "asking the bootstrap nodes and the router"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask_routers)
                with trio.move_on_after(2 * deadline + 1):
                    await node.reclassify_nat(thorough=True)
        if patient:
            reporter.note("letting bindings rest to see when the NAT forgets them; this takes up to ten minutes")
            with show_waiting(reporter, "letting bindings rest"), trio.move_on_after(_PATIENCE):
                await node.wait_binding_lifetime()
        report = node.nat_report
        if not report.observations:
            raise CommandError(
                "no-observer",
                "no connected node said where it sees this one: the bootstrap nodes take no part in NAT traversal, "
                "or packets to them get lost; peers are reached over the relay all the same",
            )
        fields = {**_fields(node, report), "routers": _router_fields(report, routers)}
        _tell(reporter, report, fields)
        reporter.event("nat", **fields)
        if report.nat_type.value == "unknown":
            raise CommandError(
                "unknown",
                f"{len(fields['observers'])} node said where it sees this one, and it takes two at different addresses "
                "to tell the kind of NAT: give another --bootstrap",
            )
        seconds = reporter.seconds
        reporter.event("done", f"done   in {seconds:.1f} s", nat_type=report.nat_type.value, seconds=round(seconds, 3))
    return True


def _fields(node: Node, report: NatReport) -> dict[str, Any]:
    """All that is known, for programs."""
    rtts = {peer.peer_id: peer.path.rtt for peer in node.peers() if peer.path is not None}

    def text(value: object) -> str | None:
        return None if value is None else str(value)

    observers = []
    for seen in report.observations:
        rtt = rtts.get(seen.observer)
        observers.append(
            {
                "peer_id": str(seen.observer),
                "address": str(seen.observer_address),
                "reflex_addr": str(seen.reflex),
                "rtt_ms": None if rtt is None else round(rtt * 1000, 3),
            }
        )
    return {
        "nat_type": report.nat_type.value,
        "reflex_addr": text(report.reflex or report.reflex6),
        "ipv6_addr": text(_global_ipv6(node)),
        "mapping": None if report.mapping is None else report.mapping.value,
        "filtering": None if report.filtering is None else report.filtering.value,
        "port_preservation": report.port_preservation,
        "port_step": report.port_step,
        "hairpin": report.hairpin,
        "binding_survives": report.binding_survives,
        "binding_lifetime": report.binding_lifetime,
        "observers": observers,
        "meaning": meaning(report),
    }


def _global_ipv6(node: Node) -> Address | None:
    """Where packets of IPv6 from anywhere go to this host, be there a firewall that stops them or not."""
    for uri in node.addresses:
        address = None if uri.address is None else uri.address.address
        if address is not None and address.family == 6 and not (address.is_private or address.is_loopback):
            return address
    return None


def _router_fields(report: NatReport, routers: Sequence[RouterReport]) -> list[dict[str, Any]]:
    """Of the IPv4 router, and of others that grant mappings."""
    from netmesh_trio.cli.routers import router_fields

    found = []
    for router in routers:
        # not what is announced, which may be the mapping itself
        seen = [o.reflex for o in report.observations if o.family == router.family]
        fields = router_fields(router, seen[-1] if seen else None)
        if router.family == 4 or "spoken" in fields["protocols"].values():
            found.append(fields)
    return found


def meaning(report: NatReport) -> str:
    """What the NAT means for reaching others, in a sentence."""
    kind = report.nat_type.value
    filtering = "" if report.filtering is None else report.filtering.value
    if kind == "open":
        if filtering in ("", "endpoint-independent"):
            direct = "direct paths are possible with all of them"
        else:
            direct = "direct paths are possible with nearly all, though a firewall here lets in replies only"
    elif kind == "cone":
        if filtering in ("endpoint-independent", "address-dependent"):
            direct = "direct paths are possible with all of them"
        else:
            direct = (
                "direct paths are possible with open and cone peers; with symmetric ones, traffic may stay on the relay"
            )
    elif kind == "symmetric":
        direct = (
            "direct paths are possible with open peers and with those whose NAT does not look at ports; "
            "with others, traffic stays on the relay"
        )
    else:
        direct = "with whom direct paths are possible is not known, and they are tried all the same"
    return f"every peer is reached over the relay; {direct}"


def _tell(reporter: Reporter, report: NatReport, fields: dict[str, Any]) -> None:
    """The same for people."""
    kind = _FORWARDED if report.overridden else _TYPES[fields["nat_type"]]
    rows = {"type": kind, "seen from outside as": fields["reflex_addr"] or "not known"}
    differs = "another outside address for some destinations (address-dependent or address-and-port-dependent)"
    unknown = differs if fields["nat_type"] == "symmetric" else "not known"
    rows["mapping"] = _MAPPING.get(fields["mapping"], unknown)
    rows["filtering"] = _FILTERING.get(fields["filtering"], "not known")
    preserved = {True: "the outside port is the inside one", False: "the outside port is another than the inside one"}
    rows["ports"] = preserved.get(fields["port_preservation"], "not known")
    if fields["port_step"]:
        rows["ports"] += f", each new one {fields['port_step']} higher than the last"
    if fields["hairpin"] is not None:
        hairpin = "works" if fields["hairpin"] else "does not work"
        rows["hairpin"] = f"reaching the own outside address from inside {hairpin}"
    survives, gone = fields["binding_survives"], fields["binding_lifetime"]
    told = [f"survive {survives:g} s without traffic"] if survives is not None else []
    told += [f"are gone after {gone:g} s"] if gone is not None else []
    if told:
        rows["bindings"] = " and ".join(told)
    rows["IPv6"] = (
        "no address that others could send to"
        if fields["ipv6_addr"] is None
        else f"{fields['ipv6_addr']}, where no NAT is in the way; with peers that have IPv6, direct paths are possible"
    )
    reporter.table(rows)
    for seen in fields["observers"]:
        rtt = "" if seen["rtt_ms"] is None else f", {seen['rtt_ms']:.1f} ms away"
        reporter.line(f"{seen['peer_id'][:8]} at {seen['address']}{rtt}, sees {seen['reflex_addr']}")
    for sentence in (fields["meaning"], *(router["meaning"] for router in fields["routers"])):
        reporter.prose(f"{sentence[0].upper()}{sentence[1:]}.")
