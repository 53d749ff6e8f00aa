from __future__ import annotations

from typing import Any

import attrs
import pytest

from netmesh_trio.addresses import Address
from netmesh_trio.errors import ConfigError
from netmesh_trio.traversal import TraversalConfig


def test_defaults() -> None:
    config = TraversalConfig()
    assert attrs.asdict(config, recurse=False) == {
        "enabled": True,
        "reflex_timeout": 3.0,
        "classify_deadline": 5.0,
        "classify_interval": 300.0,
        "punch_fire_lead": 0.5,
        "punch_deadline": 5.0,
        "keep_alives": (0.0, 0.025, 0.075, 0.175, 0.375, 0.775, 1.575, 3.175),
        "try_port_mapping": False,
        "port_mapping_renewal": 1800.0,
        "port_mapping_lease": 3600.0,
        "auto_direct_upgrade": True,
        "upgrade_backoff": (30.0, 600.0),
        "reflex_override": None,
    }
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.enabled = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("keep_alives", [0, 1]),
        ("keep_alives", (5,)),
        ("upgrade_backoff", [1, 1]),
        ("reflex_override", "[2001:db8::1]:5"),
        ("reflex_override", Address("203.0.113.7", 4650)),
        ("reflex_override", ("203.0.113.7", 4650)),
        ("punch_fire_lead", 0),
    ],
)
def test_accepted(field: str, value: Any) -> None:
    assert getattr(TraversalConfig(**{field: value}), field) is not None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"enabled": 1}, "enabled is 1; give True or False"),
        ({"auto_direct_upgrade": None}, "give True or False"),
        ({"try_port_mapping": "yes"}, "give True or False"),
        ({"reflex_timeout": 0}, "from 0.05 to 60"),
        ({"reflex_timeout": True}, "number of seconds"),
        ({"classify_deadline": float("nan")}, "from 0.05"),
        ({"classify_interval": "300"}, "from 1"),
        ({"punch_fire_lead": 1.5}, "from 0 to 1"),
        ({"punch_deadline": -1}, "from 0.1"),
        ({"keep_alives": ()}, "1 to 32 times"),
        ({"keep_alives": (0, 0)}, "each later than"),
        ({"keep_alives": (0.2, 0.1)}, "each later than"),
        ({"keep_alives": (-1, 0)}, "from 0 to 60"),
        ({"keep_alives": range(3)}, "1 to 32 times"),
        ({"keep_alives": tuple(range(33))}, "1 to 32 times"),
        ({"keep_alives": 0.5}, "1 to 32 times"),
        ({"upgrade_backoff": (60, 30)}, "first, longest"),
        ({"upgrade_backoff": (30,)}, "first, longest"),
        ({"upgrade_backoff": ("30", 600)}, "first, longest"),
        ({"upgrade_backoff": 30}, "first, longest"),
        ({"port_mapping_lease": 1800}, "renew well before the lease ends"),
        ({"reflex_override": "0.0.0.0:1"}, "that others reach"),
        ({"reflex_override": "203.0.113.7:0"}, "that others reach"),
        ({"reflex_override": "224.0.0.1:5"}, "that others reach"),
        ({"reflex_override": "example.org:5"}, "not numeric"),
        ({"reflex_override": ("203.0.113.7", 70000)}, "port"),
        ({"reflex_override": 5}, "that others reach"),
    ],
)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TraversalConfig(**fields)
