"""All counters of a node as OpenMetrics text, and the small web server that gives it to Prometheus."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs
import trio

import netmesh_trio
from netmesh_trio import NatType
from netmesh_trio.cli.tunnel import Endpoint, listen

if TYPE_CHECKING:
    from netmesh_trio import Node

__all__ = ["CONTENT_TYPE", "render", "serve_metrics"]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_PREFIX = "netmesh"
_LONGEST_HEAD = 8192  # bytes
_PATIENCE = 5.0  # seconds for a whole request and its answer
_AT_ONCE = 16

#: What is a present value.  All other fields of the two snapshots only grow.
_GAUGES = {
    "sessions": "Sessions that are up.",
    "half_open": "Handshakes under way.",
    "circuits": "Circuits relayed for others.",
    "port_mapping_active": "Whether a port mapping of the router is in place.",
    "port_mapping_renewals": "Renewals of the present port mapping.",
}
_COUNTERS = {
    "packets_received": "Packets received.",
    "packets_sent": "Packets sent.",
    "bytes_received": "UDP payload received.",
    "bytes_sent": "UDP payload sent.",
    "dropped_unknown": "Datagrams that were no packet of ours, or for no session of ours.",
    "dropped_handshake": "Handshake packets refused.",
    "dropped_control": "Control messages dropped because their handler was behind.",
    "unknown_subprotocol": "Control messages of an unknown subprotocol.",
    "invalid_control": "Malformed control messages.",
    "internal_errors": "Sessions that ended by a fault in netmesh_trio.",
    "refused_streams": "Streams refused: nobody serves the name, or the backlog is full.",
    "dropped_datagrams": "Datagrams for a service that nobody reads, or whose reader was behind.",
    "send_errors": "Datagrams that the operating system did not take.",
    "path_failovers": "Sessions that left a path which did not answer any more.",
    "relayed_packets": "Packets relayed for others.",
    "relayed_bytes": "Bytes relayed for others.",
    "relay_dropped": "Packets to relay that were dropped: no such circuit, or over its budget.",
    "reflex_answered": "Times that a peer was told under which address it is seen.",
    "reflex_refused": "Questions and orders of peers that were over their budget.",
    "reflex_unmatched": "Answers and canaries that belonged to nothing under way.",
    "reflex_declined": "Requests for help and orders of peers that were declined.",
    "canaries_sent": "Canaries sent so that others find out what their NAT lets in.",
    "canaries_received": "Canaries that came in as this node had asked for.",
    "canaries_invalid": "Malformed canaries.",
    "dropped_forged": "Packets of a session that were not authentic: forged, or damaged on the way.",
    "dropped_replayed": "Packets of a session that came a second time, or too late to tell.",
    "dropped_invalid": "Packets of a session that were too short, under keys long gone, or made no sense.",
    "unsent_control": "Control messages that were not sent: too many waited already.",
    "unsent_datagrams": "Datagrams that were not sent: too many waited already, or the path has become too narrow.",
    "key_conflicts": "Announcements of another program that runs with the key of this node.",
    "displaced_sessions": "Sessions that were ended to make room for those of somebody who had fewer.",
    "punches_attempted": "Punches that a coordinator mediated.",
    "punches_succeeded": "Punches that gave a direct path.",
    "relay_fallbacks": "Searches for a direct path that ended on the relay, which carries.",
    "punch_timeouts": "Punches whose deadline passed.",
    "punch_rejections": "Requests for an introduction that were declined.",
    "answers": "Attempts of peers at a direct path that were answered.",
    "answers_put_off": "Attempts of peers that were put off: too many at once, or too often.",
    "introductions_dropped": "Introductions that were too many, or to an address that the peer is not known to have.",
    "rendezvous_no_relay": "Times that nobody could be asked for an introduction.",
    "upgrades_attempted": "Background searches for a direct path.",
    "upgrades_succeeded": "Background searches that gave a direct path.",
}
_ELSEWHERE = {"port_mapping_external", "time_to_direct"}


def render(node: Node) -> str:
    """The text: https://prometheus.io/docs/specs/om/open_metrics_spec/."""
    lines: list[str] = []

    def family(name: str, kind: str, about: str, samples: Iterable[tuple[str, object]]) -> None:
        name = f"{_PREFIX}_{name}"
        lines.append(f"# TYPE {name} {kind}")
        unit = name.rpartition("_")[2]
        if unit in ("bytes", "seconds"):
            lines.append(f"# UNIT {name} {unit}")
        lines.append(f"# HELP {name} {about}")
        lines.extend(f"{name}{suffix} {_number(value)}" for suffix, value in samples)

    labels = f'version="{netmesh_trio.__version__}",peer_id="{node.peer_id}"'
    family("node", "info", "This node.", [(f"_info{{{labels}}}", 1)])
    kinds = [(f'{{{_PREFIX}_nat_type="{kind.value}"}}', node.nat_type is kind) for kind in NatType]
    family("nat_type", "stateset", "The NAT in front of this node.", kinds)
    paths = [peer.path.kind.value for peer in node.peers() if peer.path is not None]
    counts = [(f'{{path="{kind}"}}', paths.count(kind)) for kind in ("direct", "relayed")]
    family("peers", "gauge", "Peers with a session, by the path that data takes.", counts)

    traversal = node.traversal_stats()
    values: dict[str, Any] = {**_fields(traversal), **_fields(node.statistics())}
    for field, value in values.items():
        if field in _GAUGES:
            family(field, "gauge", _GAUGES[field], [("", value)])
        elif field not in _ELSEWHERE:
            about = _COUNTERS.get(field, f"{field.replace('_', ' ').capitalize()}.")
            family(_counter_name(field), "counter", about, [("_total", value)])

    histogram = traversal.time_to_direct
    so_far, buckets = 0, []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        so_far += count
        buckets.append((f'_bucket{{le="{_number(float(bound))}"}}', so_far))
    family(
        "time_to_direct_seconds",
        "histogram",
        "From the first session with a peer, or the search, to a direct path.",
        [*buckets, ("_count", histogram.count), ("_sum", histogram.sum)],
    )
    return "\n".join([*lines, "# EOF"]) + "\n"


def _fields(snapshot: attrs.AttrsInstance) -> dict[str, Any]:
    return {field.name: getattr(snapshot, field.name) for field in attrs.fields(type(snapshot))}


def _counter_name(field: str) -> str:
    """By convention a unit stands last: ``bytes_sent`` counts ``sent_bytes``."""
    unit, _, rest = field.partition("_")
    return f"{rest}_{unit}" if unit in ("bytes", "packets") else field


def _number(value: object) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(value) if isinstance(value, float) else str(int(value))  # type: ignore[call-overload]


async def serve_metrics(where: Endpoint, text: Callable[[], str], ready: Callable[[list[Endpoint]], None]) -> None:
    """Answer ``GET /metrics`` until cancelled.  CommandError if ``where`` cannot be listened on."""
    running = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal running
        if running >= _AT_ONCE:
            return
        running += 1
        try:
            with trio.move_on_after(_PATIENCE):
                await _answer(stream, text)
        except trio.BrokenResourceError:
            pass
        finally:
            running -= 1

    async with listen(where) as (listeners, bound):
        ready(bound)
        await trio.serve_listeners(handle, listeners)


async def _answer(stream: trio.SocketStream, text: Callable[[], str]) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(_LONGEST_HEAD + 1 - len(head))
        head += data
        if not data or len(head) > _LONGEST_HEAD:
            break
    status, body = _respond(head, text)
    kind = CONTENT_TYPE if status.startswith("200") else "text/plain; charset=utf-8"
    fields = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    if status.startswith("405"):
        fields.append("Allow: GET, HEAD")
    without_body = head.startswith(b"HEAD ")
    await stream.send_all("\r\n".join([*fields, "", ""]).encode() + (b"" if without_body else body))
    await stream.send_eof()
    # so that what it sent on top does not turn our answer into a reset
    while await stream.receive_some(_LONGEST_HEAD):
        pass


def _respond(head: bytes, text: Callable[[], str]) -> tuple[str, bytes]:
    """Status and body for the head of a request, whatever it is."""
    if len(head) > _LONGEST_HEAD:
        return "431 Request Header Fields Too Large", b"too large\n"
    request = re.fullmatch(rb"([A-Z]+) (/[!-~]*) HTTP/1\.[01]", head.partition(b"\r\n")[0])
    if request is None or not head.endswith(b"\r\n\r\n"):
        return "400 Bad Request", b"no request of HTTP/1.1\n"
    if request[1] not in (b"GET", b"HEAD"):
        return "405 Method Not Allowed", b"GET it\n"
    if request[2].partition(b"?")[0] != b"/metrics":
        return "404 Not Found", b"look at /metrics\n"
    return "200 OK", text().encode()
