"""Settings: what is refused and what is said then; and that the help tells all of them."""

from __future__ import annotations

import inspect
import re
from typing import Any

import attrs
import pytest

from netmesh_trio import ConfigError, Identity, NetworkKey, NodeConfig, TraversalConfig

PEER = Identity(bytes(32)).peer_id
WHOLE = "max_datagram_size", "stream_window", "session_window", "max_streams", "backlog", "max_sessions"
SECONDS = "keep_alive", "dead_peer_timeout", "connect_timeout", "close_timeout", "rekey_interval"


@pytest.mark.parametrize("field", WHOLE)
@pytest.mark.parametrize("value", [4096.5, 4096.0, float("nan"), True, "4096", None, 0, 1 << 40])
def test_whole_numbers(field: str, value: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{field} is {value!r}; give a whole number of (bytes|\w+) from \d+ to \d+$"
    ):
        NodeConfig(**{field: value})


@pytest.mark.parametrize("field", SECONDS)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "5 s", None])
def test_seconds(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{field} is {value!r}; give a number of seconds from [\d.]+ to \d+$"):
        NodeConfig(**{field: value})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"direct": 1}, "direct is 1; give True or False"),
        ({"direct": None}, "direct is None; give True or False"),
        ({"try_port_mapping": 1}, "try_port_mapping is 1; give True, False or None"),
        ({"try_port_mapping": "no"}, "give True, False or None"),
        ({"relay": "everybody"}, "relay is 'everybody'; give one of 'off', 'members', 'any'"),
        ({"relay": None}, "give one of 'off'"),
        ({"relay": ["any"]}, "give one of 'off'"),
        ({"relay_members": [str(PEER)]}, "give peer ids"),
        ({"relay_members": PEER}, "give peer ids"),
        ({"relay_members": "all"}, "give peer ids"),
        ({"relay_members": None}, "give peer ids"),
        ({"network_key": bytes(32)}, "must be a NetworkKey"),
        ({"traversal": {}}, "give a TraversalConfig"),
        ({"traversal": None}, "give a TraversalConfig"),
        ({"network_key": NetworkKey(bytes(32)), "relay_members": [PEER]}, "exclude each other"),
        ({"relay": "members"}, "there are none; give a network key .* or relay_members, or else 'any' or 'off'"),
    ],
)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        NodeConfig(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"keep_alive": 1},
        {"close_timeout": 0},
        {"stream_window": 1 << 12},
        {"relay": "members", "relay_members": iter([PEER])},
        {"relay": "members", "network_key": NetworkKey(bytes(32))},
        {"relay": "off", "relay_members": [PEER]},
    ],
)
def test_accepted(fields: dict[str, Any]) -> None:
    NodeConfig(**fields)


@pytest.mark.parametrize("kind", [NodeConfig, TraversalConfig])
def test_the_docstring_tells_each_field_with_its_unit_and_default(kind: type[attrs.AttrsInstance]) -> None:
    told = inspect.getdoc(kind)
    assert told is not None
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", told.partition("\nAttributes:\n")[2], re.MULTILINE)
    fields = attrs.fields_dict(kind)
    assert [name for name, _ in entries] == list(fields)
    default = kind()
    for name, text in entries:
        found = re.search(r"Default:\s+``(.+?)``", text)
        assert found is not None, name
        assert eval(found[1], {"TraversalConfig": TraversalConfig}) == (
            None if name == "try_port_mapping" and kind is NodeConfig else getattr(default, name)
        ), name
        if "int" in str(fields[name].type) or "float" in str(fields[name].type):
            assert re.search(r"\b(bytes|seconds|streams|sessions)\b", text, re.IGNORECASE), name
