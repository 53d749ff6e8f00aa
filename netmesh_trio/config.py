"""How a node behaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs

from .errors import ConfigError
from .identity import NetworkKey, PeerId
from .reprs import show_changed
from .traversal.config import TraversalConfig

__all__ = ["NodeConfig", "RelayPolicy"]

#: For whom a node relays: for nobody, for members, for any node it has a session with.
RelayPolicy = Literal["off", "members", "any"]


def _between(low: float, high: float) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ConfigError(f"{attribute.name} is {value!r}; give a number from {low:g} to {high:g}")

    return check


def _one_of(*values: object) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in values:
            raise ConfigError(f"{attribute.name} is {value!r}; give one of {', '.join(map(repr, values))}")

    return check


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
    """Settings of one node; every field has a default that suits most programs."""

    #: The key of a private mesh.  Nodes without it are not answered at all.  None: the public mesh.
    network_key: NetworkKey | None = attrs.field(default=None, validator=_network_key)
    #: For whom this node relays.  ``"members"`` are all nodes of a private mesh, or ``relay_members``.
    relay: RelayPolicy = attrs.field(default="any", validator=_one_of("off", "members", "any"))
    #: Who may use this node as a relay under ``relay="members"`` without a network key.
    relay_members: frozenset[PeerId] = attrs.field(factory=frozenset, converter=_members)
    #: Whether sessions may move to direct paths by themselves.  Without, they stay on the relay.
    direct: bool = attrs.field(default=True, validator=_one_of(True, False))
    #: Whether to ask the router for a port mapping (PCP, NAT-PMP, UPnP): the node is ``open`` while it has one, and
    #: removes it on leaving.  It never delays anything, and none is needed to communicate.  None: as
    #: ``traversal.try_port_mapping`` says; else that says the same as this.
    try_port_mapping: bool | None = attrs.field(default=None, validator=_one_of(None, True, False))
    #: How this node looks for shorter paths.
    traversal: TraversalConfig = attrs.field(factory=TraversalConfig, validator=_traversal)
    #: Seconds between packets that keep an idle session and the NAT bindings under it alive.
    keep_alive: float = attrs.field(default=25.0, validator=_between(0.5, 3600))
    #: Seconds without any answer, while something waits for one, after which a peer counts as gone.
    dead_peer_timeout: float = attrs.field(default=8.0, validator=_between(0.5, 600))
    #: Seconds that :meth:`Node.connect` tries before it gives up.
    connect_timeout: float = attrs.field(default=10.0, validator=_between(0.1, 600))
    #: Seconds that leaving a node waits for the peers to acknowledge what was written.
    close_timeout: float = attrs.field(default=2.0, validator=_between(0, 60))
    #: Seconds after which the keys of a session are renewed.
    rekey_interval: float = attrs.field(default=600.0, validator=_between(1, 86400))
    #: The largest UDP payload sent or taken in, bytes.  Larger sizes are found by probing, up to this.
    max_datagram_size: int = attrs.field(default=8952, validator=_between(1200, 16336))
    #: Bytes of unread stream data taken in before the sender has to wait: each stream, the whole session.
    stream_window: int = attrs.field(default=8 << 20, validator=_between(1 << 12, 1 << 30))
    session_window: int = attrs.field(default=16 << 20, validator=_between(1 << 12, 1 << 30))
    #: Streams that a peer may have open at once.
    max_streams: int = attrs.field(default=1024, validator=_between(1, 65535))
    #: Streams of one service that wait to be accepted; more are refused.
    backlog: int = attrs.field(default=128, validator=_between(1, 65535))
    #: Sessions at once, of all peers together; more are not answered.
    #: An eighth of them is kept for those that this node opens.
    max_sessions: int = attrs.field(default=4096, validator=_between(1, 1_000_000))

    def __attrs_post_init__(self) -> None:
        # One setting at two doors: they agree in every config, also in what attrs.evolve makes.
        if self.try_port_mapping is None:
            object.__setattr__(self, "try_port_mapping", self.traversal.try_port_mapping)
        elif self.try_port_mapping is not self.traversal.try_port_mapping:
            traversal = attrs.evolve(self.traversal, try_port_mapping=bool(self.try_port_mapping))
            object.__setattr__(self, "traversal", traversal)
        if self.relay_members and self.network_key is not None:
            raise ConfigError("relay_members and network_key exclude each other: all of a private mesh are members")

    def __repr__(self) -> str:
        return show_changed(self, but="try_port_mapping")  # the traversal says it, too
