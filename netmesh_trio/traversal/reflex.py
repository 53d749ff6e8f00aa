"""Reflex (subprotocol 0x0D00): any peer says under which address it sees another.

The plain form is an empty request and an answer of 19 bytes, the address in the form of :meth:`Address.pack`.  An
answer without a name cannot be told from a late answer to an earlier request, so our own requests carry a token that
comes back in front of the address; both forms are answered.  Two further messages find out what a NAT lets in: a
helper is asked to have a *canary* sent, a bare UDP packet (:func:`netmesh_trio.wire.packets.canary`) that needs no
session, from somewhere the asker has not sent to.  All messages have different lengths, which tell them apart:

=====  ==============  ===========================================================================================
bytes  message         layout
=====  ==============  ===========================================================================================
0      ReflexRequest   empty
8      ReflexRequest   token 8 bytes
9      HelpRequest     token 8 bytes, what u8: 1 canary from another port of yours, 2 canary from another peer,
                       4 note where a canary of mine comes from, 5 send one there
10     HelpAnswer      token 8 bytes, what u8 (0: of a ReflexRequest), done u8: 1 done, 0 declined
19     ReflexAnswer    family u8 (4 or 6), address 16 bytes (IPv4 in the first four, the rest zero), port u16 BE
27     ReflexAnswer    token 8 bytes, then the same 19 bytes
28     CanaryOrder     token 8 bytes, what u8 = 3, address 19 bytes: a helper asks a peer of its own
=====  ==============  ===========================================================================================

Other lengths are dropped and counted.  A request that came in over a circuit shows no address: it is answered with
``HelpAnswer(token, what=0, done=False)``.  *Declined* is what keeps "did not get in" apart from "was never sent".

Whoever was asked to note (4) says with a ``ReflexAnswer`` of that token when and from where the canary came; it counts
only from the host at which the asker's session is seen.  That is how a node finds out how long a NAT remembers.

A canary goes to the address at which the asker's own session is seen; only in a :class:`CanaryOrder` does somebody
name another's address, and those come out of a small budget (:class:`HelperBudgets`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs

from ..addresses import PACKED_ADDRESS_SIZE, Address
from ..identity import PeerId
from ..wire.errors import DecodeError
from ..wire.packets import CANARY, CANARY_SIZE
from .budgets import WindowBudget

__all__ = [
    "TOKEN_SIZE",
    "CanaryOrder",
    "Help",
    "HelpAnswer",
    "HelpRequest",
    "HelperBudgets",
    "Probe",
    "ReflexAnswer",
    "ReflexMessage",
    "ReflexProbes",
    "ReflexRequest",
    "decode_reflex_message_untrusted",
    "read_canary_untrusted",
]

TOKEN_SIZE = 8


class Help(enum.IntEnum):
    """What a :class:`HelpAnswer` answers."""

    REFLEX = 0
    """A :class:`ReflexRequest`, and no address was seen."""
    OTHER_PORT = 1
    """A :class:`HelpRequest`: a canary from the helper's address and a port that the asker has not sent to."""
    OTHER_PEER = 2
    """A :class:`HelpRequest`: a canary from another peer, at another address."""
    ORDER = 3
    """A :class:`CanaryOrder`."""
    BINDING = 4
    """A :class:`HelpRequest`: the asker sends a canary from another port; note and say where it came from."""
    REVISIT = 5
    """A :class:`HelpRequest`: a canary to where the one of :attr:`BINDING` came from."""


_REQUESTS = frozenset((Help.OTHER_PORT, Help.OTHER_PEER, Help.BINDING, Help.REVISIT))


def _check_token(token: bytes) -> bytes:
    if len(token) != TOKEN_SIZE:
        raise ValueError(f"a token has {TOKEN_SIZE} bytes")
    return token


@attrs.frozen
class ReflexRequest:
    """Under which address do you see me?  ``token`` may be None, which is the plain form."""

    token: bytes | None = None

    def encode(self) -> bytes:
        """0 or 8 bytes."""
        return b"" if self.token is None else _check_token(self.token)


@attrs.frozen
class ReflexAnswer:
    """The source address of the packet that the request came in."""

    address: Address
    token: bytes | None = None
    """That of the request."""

    def encode(self) -> bytes:
        """19 or 27 bytes."""
        return (b"" if self.token is None else _check_token(self.token)) + self.address.pack()


@attrs.frozen
class HelpRequest:
    """Have a canary with this token sent to me, or note where one of mine comes from."""

    token: bytes
    what: Help
    """Any but :attr:`Help.REFLEX` and :attr:`Help.ORDER`."""

    def encode(self) -> bytes:
        """9 bytes."""
        if self.what not in _REQUESTS:
            raise ValueError("help is a canary from another port or another peer, or the watch on a binding")
        return _check_token(self.token) + bytes((self.what,))


@attrs.frozen
class HelpAnswer:
    """Whether it was done."""

    token: bytes
    what: Help
    done: bool

    def encode(self) -> bytes:
        """10 bytes."""
        return _check_token(self.token) + bytes((self.what, self.done))


@attrs.frozen
class CanaryOrder:
    """A helper asks a peer of its own to send a canary to ``address``, from which it was asked."""

    token: bytes
    address: Address

    def encode(self) -> bytes:
        """28 bytes."""
        return _check_token(self.token) + bytes((Help.ORDER,)) + self.address.pack()


ReflexMessage = ReflexRequest | ReflexAnswer | HelpRequest | HelpAnswer | CanaryOrder

_T = TOKEN_SIZE
_A = PACKED_ADDRESS_SIZE


def decode_reflex_message_untrusted(data: bytes) -> ReflexMessage:
    """Read any message of the reflex subprotocol; any bytes give a message or :class:`DecodeError`."""
    size = len(data)
    token = bytes(data[:_T])
    if size == 0:
        return ReflexRequest()
    if size == _T:
        return ReflexRequest(token)
    if size == _A:
        return ReflexAnswer(_read_address(data))
    if size == _T + _A:
        return ReflexAnswer(_read_address(data[_T:]), token)
    if size == _T + 1:
        if data[_T] not in _REQUESTS:
            raise DecodeError("request for an unknown kind of help")
        return HelpRequest(token, Help(data[_T]))
    if size == _T + 2:
        if data[_T] > Help.REVISIT or data[_T + 1] > 1:
            raise DecodeError("answer about an unknown kind of help")
        return HelpAnswer(token, Help(data[_T]), data[_T + 1] == 1)
    if size == _T + 1 + _A:
        if data[_T] != Help.ORDER:
            raise DecodeError("order of an unknown kind")
        return CanaryOrder(token, _read_address(data[_T + 1 :]))
    raise DecodeError(f"reflex message of {size} bytes")


def _read_address(data: bytes) -> Address:
    address = Address.unpack(data)
    if not address.is_unicast:
        raise DecodeError("reflex address that no host has")
    return address


def read_canary_untrusted(data: bytes) -> bytes:
    """The token of a canary packet, or :class:`DecodeError`.  It counts only if it is one we wait for."""
    if len(data) != CANARY_SIZE or data[0] != CANARY or any(data[1:4]):
        raise DecodeError("not a canary")
    return bytes(data[4:])


@attrs.frozen
class Probe:
    """A request under way."""

    token: bytes
    peer: PeerId
    observer: Address | None
    """Where the peer was when it was asked; None if unknown."""
    sent_at: float


class ReflexProbes:
    """Requests under way, by their tokens.

    An answer counts for the request whose token it carries, if it comes from the peer that was asked and in time; a
    late or repeated one counts for none.  Times are seconds.
    """

    __slots__ = ("_limit", "_probes", "_timeout", "expired", "unmatched")

    def __init__(self, timeout: float = 3.0, limit: int = 256) -> None:
        self._timeout = timeout
        self._limit = limit
        self._probes: dict[bytes, Probe] = {}  # oldest first
        #: Requests that were not answered in time.
        self.expired: int = 0
        #: Answers that belonged to no request.
        self.unmatched: int = 0

    def start(
        self, peer: PeerId, observer: Address | None, now: float, random_bytes: Callable[[int], bytes]
    ) -> Probe | None:
        """A new request, to be sent by the caller; None if too many are under way."""
        self.expire(now)
        if len(self._probes) >= self._limit:
            return None
        token = random_bytes(TOKEN_SIZE)
        if token in self._probes:
            return None
        probe = self._probes[token] = Probe(token, peer, observer, now)
        return probe

    def match(self, peer: PeerId, token: bytes | None, now: float, *, keep: bool = False) -> Probe | None:
        """The request that an answer of ``peer`` belongs to, which is then over; None if there is none.

        With ``keep`` it goes on: the canary that the answer tells of may come in later.  A token that another peer
        was given stays good for that one.
        """
        self.expire(now)
        probe = None if token is None else self._probes.get(token)
        if probe is None or probe.peer != peer:
            self.unmatched += 1
            return None
        if not keep:
            del self._probes[probe.token]
        return probe

    def match_canary(self, token: bytes, now: float) -> Probe | None:
        """The request for help whose canary came in; it goes on, for the answer is still to come."""
        self.expire(now)
        probe = self._probes.get(token)
        if probe is None:
            self.unmatched += 1
        return probe

    def cancel(self, token: bytes) -> None:
        """Nobody waits for the answer any more."""
        self._probes.pop(token, None)

    def expire(self, now: float) -> list[Probe]:
        """Take out and return what was not answered in time."""
        late = []
        for probe in self._probes.values():
            if now - probe.sent_at < self._timeout:
                break
            late.append(probe)
        for probe in late:
            del self._probes[probe.token]
        self.expired += len(late)
        return late

    def __len__(self) -> int:
        return len(self._probes)


class HelperBudgets:
    """How much a node does for the classification of others: each answer is one small packet, never more.

    Reflex answers: 32 per peer in 10 s.  Canaries that a peer asks for itself: 8 in 10 s.  Canaries to an address
    that somebody else names: 4 per who names it, and 4 to any one host whoever names it, in 10 s.
    """

    __slots__ = ("_answers", "_help", "_hosts", "_orders")

    def __init__(self) -> None:
        self._answers: WindowBudget[PeerId] = WindowBudget(32, 10.0)
        self._help: WindowBudget[PeerId] = WindowBudget(8, 10.0)
        self._orders: WindowBudget[PeerId] = WindowBudget(4, 10.0)
        self._hosts: WindowBudget[str] = WindowBudget(4, 10.0)

    @property
    def refused(self) -> int:
        """How often something was refused."""
        return self._answers.refused + self._help.refused + self._orders.refused + self._hosts.refused

    def may_answer(self, peer: PeerId, now: float) -> bool:
        """Whether to answer a :class:`ReflexRequest`."""
        return self._answers.take(peer, now)

    def may_help(self, peer: PeerId, now: float) -> bool:
        """Whether to do what a :class:`HelpRequest` asks for."""
        return self._help.take(peer, now)

    def may_follow(self, helper: PeerId, order: CanaryOrder, now: float) -> bool:
        """Whether to send what a :class:`CanaryOrder` asks for."""
        address = order.address
        if address.is_loopback or address.is_link_local:
            return False
        return self._orders.take(helper, now) and self._hosts.take(address.host, now)
