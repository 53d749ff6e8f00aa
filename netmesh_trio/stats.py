"""Counters of a node and of a peer.  Snapshots are frozen."""

from __future__ import annotations

import attrs

from .reprs import show_changed

__all__ = ["NodeStats", "PeerStats"]


@attrs.frozen(kw_only=True, repr=False)
class NodeStats:
    """A snapshot of what a node did and dropped.  All counters only grow."""

    sessions: int
    half_open: int
    circuits: int
    packets_received: int
    packets_sent: int
    bytes_received: int
    bytes_sent: int
    #: Datagrams that were no packet of ours, or for no session of ours.
    dropped_unknown: int
    #: Handshake packets refused (wrong key, malformed, over a limit).
    dropped_handshake: int
    #: Control messages dropped because their handler was behind.
    dropped_control: int
    #: Control messages of an unknown subprotocol.
    unknown_subprotocol: int
    #: Malformed control messages.
    invalid_control: int
    #: Sessions that ended by a fault in this library, each with a traceback in the log.  Please report them.
    internal_errors: int
    #: Streams refused: nobody serves the name, or the backlog is full.
    refused_streams: int
    #: Datagrams for a service that nobody reads, or whose reader was behind.
    dropped_datagrams: int
    #: Datagrams that the operating system did not take.
    send_errors: int
    #: The same as in :class:`~netmesh_trio.traversal.TraversalStatsSnapshot`.
    path_failovers: int
    relayed_packets: int
    relayed_bytes: int
    relay_dropped: int
    #: Times that a peer was told under which address it is seen here.
    reflex_answered: int = 0
    #: Questions and orders of peers that were over their budget.
    reflex_refused: int = 0
    #: Answers and canaries that belonged to nothing under way: late, repeated or forged.
    reflex_unmatched: int = 0
    #: Requests for help and orders of peers that were declined: over their budget, nobody to ask, no port to send from.
    reflex_declined: int = 0
    #: Canaries sent so that others find out what their NAT lets in.
    canaries_sent: int = 0
    #: Canaries that came in as this node had asked for.
    canaries_received: int = 0
    #: Malformed canaries.
    canaries_invalid: int = 0
    #: Packets of a session that were not authentic: forged, or damaged on the way.
    dropped_forged: int = 0
    #: Packets of a session that came a second time, or too late to tell.
    dropped_replayed: int = 0
    #: Packets of a session that were too short or under keys long gone, and authentic ones that made no sense.
    dropped_invalid: int = 0
    #: Control messages that were not sent: too many waited already.
    unsent_control: int = 0
    #: Datagrams of the program that were not sent: too many waited already, or the path has become too narrow.
    unsent_datagrams: int = 0
    #: Announcements that this node's key signed, made while it ran, and not by it: another program has the key.  See
    #: :class:`~netmesh_trio.KeyInUse`.
    key_conflicts: int = 0
    #: Sessions of peers that were ended to make room for those of somebody who had fewer.
    displaced_sessions: int = 0

    def __repr__(self) -> str:
        return show_changed(self)


@attrs.frozen(kw_only=True, repr=False)
class PeerStats:
    """A snapshot of what the sessions with a peer carried that are up now."""

    sessions: int
    #: Streams that are open, of both sides.
    streams: int
    packets_received: int
    packets_sent: int
    #: Packets sent that got lost; what was in them was sent again.
    packets_lost: int
    #: UDP payload, bytes.
    bytes_received: int
    bytes_sent: int
    #: Packets of a session that were not authentic: forged, or damaged on the way.
    dropped_forged: int = 0
    #: Packets of a session that came a second time, or too late to tell.
    dropped_replayed: int = 0
    #: Packets of a session that were too short or under keys long gone, and authentic ones that made no sense.
    dropped_invalid: int = 0
    #: Control messages that were not sent: too many waited already.
    unsent_control: int = 0
    #: Datagrams of the program that were not sent: too many waited already, or the path has become too narrow.
    unsent_datagrams: int = 0

    def __repr__(self) -> str:
        return show_changed(self)
