"""How a node behaves."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from .checks import boolean, integer, number, one_of
from .errors import ConfigError
from .identity import NetworkKey, PeerId
from .reprs import show_changed
from .traversal.config import TraversalConfig

__all__ = ["NodeConfig", "RelayPolicy"]

#: For whom a node relays: for nobody, for members, for any node it has a session with.
RelayPolicy = Literal["off", "members", "any"]


def _members(value: object) -> frozenset[PeerId]:
    try:
        members = frozenset(value)  # type: ignore[call-overload]
    except TypeError:
        members = None
    if members is None or not all(isinstance(m, PeerId) for m in members):
        raise ConfigError(f"relay_members is {value!r}; give peer ids (PeerId.parse reads printed ones)")
    return members  # type: ignore[no-any-return]


def _traversal(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, TraversalConfig):
        raise ConfigError(f"traversal is {value!r}; give a TraversalConfig")


def _network_key(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, NetworkKey):
        raise ConfigError("network_key must be a NetworkKey (NetworkKey.load reads a file) or None")


@attrs.frozen(kw_only=True, repr=False)
class NodeConfig:
    """Settings of one node; every field has a default that suits most programs.

    Attributes:
        network_key: The key of a private mesh.  Nodes without it are not answered at all.  Default: ``None``, the
            public mesh.
        relay: For whom this node relays: ``"off"`` is nobody, ``"any"`` all nodes that it has a session with, and
            ``"members"`` all nodes of a private mesh, or ``relay_members``.  Default: ``"any"``.
        relay_members: Who may use this node as a relay under ``relay="members"`` without a network key.  Takes any
            iterable of peer ids.  Default: ``frozenset()``.
        direct: Whether sessions may move to direct paths by themselves.  Without, they stay on the relay.
            Default: ``True``.
        try_port_mapping: Whether to ask the router for a port mapping (PCP, NAT-PMP, UPnP): the node is ``open`` while
            it has one, and removes it on leaving.  It never delays anything, and none is needed to communicate.  With
            ``None`` it is as ``traversal.try_port_mapping`` says; else that says the same as this.  Default: ``None``.
        traversal: How this node looks for shorter paths.  Default: ``TraversalConfig()``.
        keep_alive: Seconds between packets that keep an idle session and the NAT bindings under it alive, 0.5 to 3600.
            Default: ``25.0``.
        dead_peer_timeout: Seconds without any answer, while something waits for one, after which a peer counts as
            gone, 0.5 to 600.  Default: ``8.0``.
        connect_timeout: Seconds that :meth:`Node.connect` tries before it gives up, 0.1 to 600.  Default: ``10.0``.
        close_timeout: Seconds that leaving a node waits for the peers to acknowledge what was written, 0 to 60.
            Default: ``2.0``.
        rekey_interval: Seconds after which the keys of a session are renewed, 1 to 86400.  Default: ``600.0``.
        max_datagram_size: The largest UDP payload sent or taken in, bytes, 1200 to 16336.  Larger sizes than 1200 are
            found by probing, up to this.  Default: ``8952``.
        stream_window: Bytes of unread stream data taken in before the sender has to wait, for each stream; 4096 to 1
            GiB.  Default: ``8388608``, 8 MiB.
        session_window: The same for all streams of a session together, bytes.  Default: ``16777216``, 16 MiB.
        max_streams: Streams that a peer may have open at once, 1 to 65535.  Default: ``1024``.
        backlog: Streams of one service that wait to be accepted, 1 to 65535; more are refused.  Default: ``128``.
        max_sessions: Sessions at once, of all peers together, 1 to 1000000.  When there are so many, those behind the
            address that has most make room for others, and who has as many is not answered.  An eighth of them is
            kept for those that this node opens.  Default: ``4096``.
    """

    network_key: NetworkKey | None = attrs.field(default=None, validator=_network_key)
    relay: RelayPolicy = attrs.field(default="any", validator=one_of("off", "members", "any"))
    relay_members: frozenset[PeerId] = attrs.field(factory=frozenset, converter=_members)
    direct: bool = attrs.field(default=True, validator=boolean())
    try_port_mapping: bool | None = attrs.field(default=None, validator=boolean(optional=True))
    traversal: TraversalConfig = attrs.field(factory=TraversalConfig, validator=_traversal)
    keep_alive: float = attrs.field(default=25.0, validator=number(0.5, 3600, "seconds"))
    dead_peer_timeout: float = attrs.field(default=8.0, validator=number(0.5, 600, "seconds"))
    connect_timeout: float = attrs.field(default=10.0, validator=number(0.1, 600, "seconds"))
    close_timeout: float = attrs.field(default=2.0, validator=number(0, 60, "seconds"))
    rekey_interval: float = attrs.field(default=600.0, validator=number(1, 86400, "seconds"))
    max_datagram_size: int = attrs.field(default=8952, validator=integer(1200, 16336, "bytes"))
    stream_window: int = attrs.field(default=8 << 20, validator=integer(1 << 12, 1 << 30, "bytes"))
    session_window: int = attrs.field(default=16 << 20, validator=integer(1 << 12, 1 << 30, "bytes"))
    max_streams: int = attrs.field(default=1024, validator=integer(1, 65535, "streams"))
    backlog: int = attrs.field(default=128, validator=integer(1, 65535, "streams"))
    max_sessions: int = attrs.field(default=4096, validator=integer(1, 1_000_000, "sessions"))

    def __attrs_post_init__(self) -> None:
        # One setting at two doors: they agree in every config, also in what attrs.evolve makes.
        if self.try_port_mapping is None:
            object.__setattr__(self, "try_port_mapping", self.traversal.try_port_mapping)
        elif self.try_port_mapping is not self.traversal.try_port_mapping:
            traversal = attrs.evolve(self.traversal, try_port_mapping=bool(self.try_port_mapping))
            object.__setattr__(self, "traversal", traversal)
        if self.relay_members and self.network_key is not None:
            raise ConfigError("relay_members and network_key exclude each other: all of a private mesh are members")
        if self.relay == "members" and not self.relay_members and self.network_key is None:
            raise ConfigError(
                "relay is 'members', but there are none; give a network key (all nodes of a private mesh are members) "
                "or relay_members, or else 'any' or 'off'"
            )

    def __repr__(self) -> str:
        return show_changed(self, but="try_port_mapping")  # the traversal says it, too
