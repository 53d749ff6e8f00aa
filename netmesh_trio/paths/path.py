"""One way on which a session's packets can travel, and what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..addresses import Address
from ..events import PathKind
from ..wire.packets import BASE_DATAGRAM_SIZE, CIRCUIT_HEADER_SIZE, DATA_OVERHEAD, circuit_header
from .congestion import Cubic
from .mtu import MtuSearch
from .pacer import Pacer
from .rtt import RttEstimator

if TYPE_CHECKING:
    from ..identity import PeerId

__all__ = ["AMPLIFICATION", "DirectKey", "Path", "PathKey", "PathKind"]

#: A direct path: the number of our socket, and the other side's address.
DirectKey = tuple[int, Address]
#: What tells a path from another: :data:`DirectKey`, or a circuit's 8-byte id.
PathKey = DirectKey | bytes


#: What an address that has not answered gets at most of what came from there, in bytes.
AMPLIFICATION = 3

# RFC 9002, section 6.1.  What follows is as in RACK (RFC 8985, section 6.2): both grow when packets that were taken for
# lost arrive after all, to a round trip at most, and are as in the beginning after 16 losses without such a thing.
_PACKET_THRESHOLD = 3
_PATIENCE = 0.125
_MAX_PACKET_THRESHOLD = 4096
_MAX_PATIENCE = 1.0
_CUTS = 16


def _is_near(address: Address) -> bool:
    return address.is_private or address.is_loopback or address.is_link_local


class Path:
    """State of one path.  Times are seconds on the node's clock, sizes bytes of UDP payload."""

    __slots__ = (
        "chunk",
        "congestion",
        "created",
        "credit",
        "cuts",
        "doubted_at",
        "eliciting_in_flight",
        "failed",
        "key",
        "kind",
        "largest_acked",
        "last_received",
        "loss_time",
        "mtu",
        "overhead",
        "pacer",
        "packet_threshold",
        "patience",
        "prefix",
        "pto_count",
        "rank",
        "rtt",
        "suspect",
        "tokens",
        "trains",
        "validated",
        "via",
        "waiting_since",
    )

    def __init__(self, key: PathKey, *, via: PeerId | None, mtu_limit: int, now: float) -> None:
        self.key: PathKey = key
        self.via: PeerId | None = via
        self.kind = PathKind.RELAYED if isinstance(key, bytes) else PathKind.DIRECT
        #: What goes in front of every packet: the circuit header, or nothing.
        self.prefix: bytes = circuit_header(key) if isinstance(key, bytes) else b""
        self.overhead = DATA_OVERHEAD + (CIRCUIT_HEADER_SIZE if self.prefix else 0)
        self.rtt: RttEstimator = RttEstimator()
        self.congestion: Cubic = Cubic(BASE_DATAGRAM_SIZE)
        self.pacer: Pacer = Pacer(BASE_DATAGRAM_SIZE)
        self.mtu: MtuSearch = MtuSearch(mtu_limit)
        #: Plaintext bytes of a full packet.
        self.chunk: int = self.mtu.current - self.overhead
        self.validated: bool = False
        #: No answer to repeated probes; another path is to be preferred.
        self.suspect: bool = False
        #: Gone for good: the circuit was closed.
        self.failed: bool = False
        #: Bytes that may be sent while the peer has not answered here.
        self.credit: float = float("inf")
        self.created: float = now
        self.last_received: float = now
        #: Since when something is under way without any of it being acknowledged.
        self.waiting_since: float = now
        self.eliciting_in_flight: int = 0
        self.largest_acked: int = -1
        self.loss_time: float = float("inf")
        #: A packet counts as lost once so many later ones, or one so much of a round trip later, are acknowledged.
        self.packet_threshold: int = _PACKET_THRESHOLD
        self.patience: float = _PATIENCE
        #: Losses that cut the window since the network was last seen to reorder.
        self.cuts: int = 0
        self.pto_count: int = 0
        #: When the first of the :attr:`pto_count` probes went out.
        self.doubted_at: float = now
        #: Challenges under way: token to the time it was sent.
        self.tokens: dict[bytes, float] = {}
        #: Punch attempts that send challenges here, at times of their own.
        self.trains: int = 0
        #: Among direct paths the lower goes first: 0 in the same network, 1 elsewhere.
        self.rank = 0 if isinstance(key, tuple) and _is_near(key[1]) else 1

    def __repr__(self) -> str:
        where = f"via {self.via.short}" if self.via else str(self.key[1])
        return f"<Path {self.kind.value} {where} rtt={self.rtt.smoothed * 1e3:.1f}ms>"

    @property
    def address(self) -> Address | None:
        """The peer's address on a direct path."""
        return None if isinstance(self.key, bytes) else self.key[1]

    @property
    def usable(self) -> bool:
        """Data may travel here."""
        return self.validated and not self.failed

    def on_cut(self) -> None:
        """A loss cut the window."""
        self.cuts += 1
        if self.cuts >= _CUTS:
            self.packet_threshold, self.patience = _PACKET_THRESHOLD, _PATIENCE

    def on_late(self, number: int, sent_at: float, now: float) -> None:
        """Packet ``number``, taken for lost, was only late: wait longer from now on."""
        self.cuts = 0
        self.packet_threshold = max(self.packet_threshold, min(self.largest_acked - number + 1, _MAX_PACKET_THRESHOLD))
        late = (now - sent_at) / max(self.rtt.smoothed, self.rtt.latest) - 1.0
        self.patience = max(self.patience, min(1.1 * late, _MAX_PATIENCE))

    def size_changed(self) -> None:
        """The datagram size changed: keep what depends on it in step."""
        self.chunk = self.mtu.current - self.overhead
        self.congestion.set_segment(self.mtu.current)
