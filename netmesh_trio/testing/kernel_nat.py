"""What kinds of NAT there are, as nftables rules: values in, text out.

In the words of RFC 4787 (mapping, filtering, port):

======================== ======================= ======================= ==========================
kind                     mapping                 filtering               port
======================== ======================= ======================= ==========================
``none``                 routed, no translation  none                    kept
``firewall``             routed, no translation  address and port        kept
``full-cone``            endpoint-independent    endpoint-independent    changed, one per inner port
``address-restricted``   endpoint-independent    address                 changed, one per inner port
``port-restricted``      endpoint-independent    address and port        changed, one per inner port
``port-preserving``      endpoint-independent    address and port        kept while it is free
``symmetric``            address and port        address and port        drawn at random
``symmetric-sequential`` address and port        address and port        the next one each time
======================== ======================= ======================= ==========================

``double`` is not a set of rules but two gateways in a row.
"""

from __future__ import annotations

import random
from typing import Literal, get_args

NatKind = Literal[
    "none",
    "firewall",
    "full-cone",
    "address-restricted",
    "port-restricted",
    "port-preserving",
    "symmetric",
    "symmetric-sequential",
    "double",
]
"""The kinds of gateway that the laboratory builds."""

NAT_KINDS: tuple[NatKind, ...] = get_args(NatKind)
"""All of them."""

ROUTED_KINDS: frozenset[NatKind] = frozenset({"none", "firewall"})
"""Those that translate nothing: hosts behind them have public addresses."""

MAPPED_KINDS: frozenset[NatKind] = frozenset({"full-cone", "address-restricted", "port-restricted"})
"""Those that map by a rule of ours, and can therefore be told to hairpin."""

_MASKS = 8
_STEPS = 4096  # sequential ports before they begin again


def port_masks(chance: random.Random) -> list[int]:
    """Eight port masks, by the low bits of the inner address: mapped port = inner port XOR mask.

    XOR is a bijection that needs no table. Two hosts that use one port get two masks and so do
    not collide; the second highest bit moves every port far from home. (Inner ports 16384 to
    17407 may map badly.)
    """
    return [0x4000 | low for low in chance.sample(range(1, 0x400), _MASKS)]


def ruleset(kind: NatKind, *, address: str, masks: list[int], lifetime: int, hairpin: bool, first_port: int) -> str:
    """The rules of a gateway with interfaces ``wan`` and ``lan``, replacing those it had.

    ``address`` is its public one, ``masks`` from `port_masks`, ``lifetime`` how many seconds an
    unused mapping stays, ``first_port`` where sequential ports begin.
    """
    if hairpin and kind not in MAPPED_KINDS:
        raise ValueError(f"a {kind} gateway cannot hairpin; these can: {sorted(MAPPED_KINDS)}")
    # A new connection from outside that no rule wants is dropped before it is confirmed. It must
    # not stay in the connection table, or the port would be taken when the inner host's own
    # packet comes.
    strict = """
  chain input {
    type filter hook input priority filter
    iifname "wan" ct state new drop
  }
  chain forward {
    type filter hook forward priority filter
    iifname "wan" ct status dnat accept
    iifname "wan" ct state new drop
  }"""
    body = ""
    if kind == "firewall":
        body = strict
    elif kind == "port-preserving":
        body = strict + _source("masquerade")
    elif kind == "symmetric":
        body = strict + _source("masquerade fully-random")
    elif kind == "symmetric-sequential":
        # By a map, not ``offset``: a bare number would land in the port in the host's byte order.
        ports = ", ".join(f"{step} : {first_port + step}" for step in range(_STEPS))
        body = strict + _source(f"snat to {address}:numgen inc mod {_STEPS} map {{ {ports} }}")
    elif kind in MAPPED_KINDS:
        body = strict + _mapped(kind, address, masks, lifetime, hairpin)
    return f"table ip lab\ndelete table ip lab\ntable ip lab {{{body}\n}}\n"


def _source(translation: str) -> str:
    return f"""
  chain source {{
    type nat hook postrouting priority srcnat
    oifname "wan" meta l4proto udp {translation}
    oifname "wan" masquerade
  }}"""


def _mapped(kind: NatKind, address: str, masks: list[int], lifetime: int, hairpin: bool) -> str:
    sources = [
        f"ip saddr & 0.0.0.7 == 0.0.0.{low} snat to {address}:udp sport ^ {mask}" for low, mask in enumerate(masks)
    ]
    postrouting = [f'oifname "wan" meta l4proto udp {source}' for source in sources]
    prerouting: list[str] = []
    learn = ['oifname "wan"']
    if hairpin:
        # Hairpinned packets look like those of an outer host, and are not filtered.
        looped = 'iifname "lan" oifname "lan" ct status dnat'
        learn.append(looped)
        postrouting += [f"{looped} meta l4proto udp {source}" for source in sources]
        prerouting.append(f'iifname "lan" ip daddr {address} dnat ip to udp dport map @owners')
    # Port-restricted needs no rule inwards: the connection table already matches address and port.
    if kind == "full-cone":
        prerouting.append(f'iifname "wan" ip daddr {address} dnat ip to udp dport map @owners')
    elif kind == "address-restricted":
        prerouting.append(
            f'iifname "wan" ip daddr {address} udp dport . ip saddr @contacted dnat ip to udp dport map @owners'
        )
    learning: list[str] = []
    for where in learn:
        # The owner of a mapped port: source of the flow, or of its answers if it began outside.
        for way in ("original", "reply"):
            owner = f"ct {way} ip saddr . ct {way} proto-src"
            learning.append(f"{where} ct direction {way} update @owners {{ udp sport : {owner} }}")
        learning.append(f"{where} update @contacted {{ udp sport . ip daddr }}")
    lines = "\n    ".join
    return f"""
  map owners {{
    type inet_service : ipv4_addr . inet_service
    size 65535; flags dynamic,timeout; timeout {lifetime}s
  }}
  set contacted {{
    type inet_service . ipv4_addr
    size 65535; flags dynamic,timeout; timeout {lifetime}s
  }}
  chain inwards {{
    type nat hook prerouting priority dstnat
    {lines(prerouting)}
  }}
  chain source {{
    type nat hook postrouting priority srcnat
    {lines(postrouting)}
    oifname "wan" masquerade
  }}
  chain learn {{
    type filter hook postrouting priority srcnat + 10
    {lines(learning)}
  }}"""


INTERNET_RULES = """
table ip lab {
  set blocked { type ipv4_addr . ipv4_addr; }
  set cut { type ipv4_addr; }
  chain forward {
    type filter hook forward priority filter
    ip saddr @cut drop
    ip daddr @cut drop
    meta l4proto udp ip saddr . ip daddr @blocked drop
  }
}
"""
"""What the internet itself drops; it tracks no connection."""


def internet_drops(blocked: set[tuple[str, str]], cut: set[str]) -> str:
    """Replace what the internet drops: UDP from one address to another, and all of an address."""
    text = "flush set ip lab blocked\nflush set ip lab cut\n"
    if blocked:
        pairs = ", ".join(f"{source} . {sink}" for source, sink in sorted(blocked))
        text += f"add element ip lab blocked {{ {pairs} }}\n"
    if cut:
        text += f"add element ip lab cut {{ {', '.join(sorted(cut))} }}\n"
    return text
