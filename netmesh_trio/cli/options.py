"""Options that all commands with a node share, and the values they take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

if TYPE_CHECKING:
    from netmesh_trio.addresses import HostPort, MeshUri
    from netmesh_trio.config import RelayPolicy
    from netmesh_trio.identity import Identity, NetworkKey, PeerId

__all__ = [
    "FilePath",
    "NodeOptions",
    "Number",
    "behind_command",
    "from_option",
    "json_option",
    "node_options",
    "parse_peer",
    "parse_value",
    "quiet_node_options",
    "relay_option",
    "timeout_option",
    "verbose_option",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def parse_value(value: Any, parse: Callable[[str], Any], ctx: click.Context, param: Any) -> Any:
    """Parse one value or several; what does not parse is a wrong command line."""
    from netmesh_trio.errors import AddressError

    try:
        if isinstance(value, tuple):
            return tuple(parse(item) for item in value)
        return None if value is None else parse(value)
    except AddressError as error:
        raise click.BadParameter(str(error), ctx, param) from None


class FilePath(click.Path):
    """A path; an empty one, as of a variable that is not set, is a mistake and not the current directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        if value == "":
            self.fail("the path is empty: name a file or directory", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number in a range, which nan is in none of."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See click."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


def parse_uri(text: str) -> MeshUri:
    """What people write as a URI.  AddressError that says how to write it."""
    from netmesh_trio.addresses import MeshUri
    from netmesh_trio.errors import AddressError

    scheme, mark, _ = text.partition("://")
    if mark and scheme != "netmesh":
        raise AddressError(f"{text!r} is no URI of a peer: write netmesh://PEER@HOST:PORT")
    if not mark and "@" in text:
        raise AddressError(f"{text!r} lacks its beginning: write netmesh://PEER@HOST:PORT")
    return MeshUri.parse(text)


def parse_peer(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Callback of a parameter that takes a peer id or a ``netmesh://`` URI, or several."""
    from netmesh_trio.identity import PeerId

    def parse(text: str) -> PeerId | MeshUri:
        return parse_uri(text) if "://" in text or "@" in text else PeerId.parse(text)

    return parse_value(value, parse, ctx, param)


def _parse_bootstrap(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from netmesh_trio.errors import AddressError

    def parse(text: str) -> MeshUri:
        uri = parse_uri(text)
        if uri.address is None and not uri.via:
            raise AddressError(f"URI {text!r} has no address: write netmesh://PEER@HOST:PORT")
        return uri

    return parse_value(value, parse, ctx, param)


def _parse_bind(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    from netmesh_trio.addresses import HostPort

    return parse_value(value, HostPort.parse, ctx, param)


@attrs.frozen(kw_only=True)
class NodeOptions:
    """What the common options said."""

    identity: Path | None
    bind: tuple[HostPort, ...]
    bootstrap: tuple[MeshUri, ...]
    direct: bool
    network_key: Path | None
    port_mapping: bool = False
    relay: RelayPolicy = "off"

    def load_identity(self) -> Identity:
        """The identity of the file, made if it is not there; a fresh one without a file.

        IdentityError as :meth:`Identity.load_or_create`.
        """
        from netmesh_trio.identity import Identity

        if self.identity is None:
            return Identity.generate()
        return Identity.load_or_create(self.identity)

    def load_network_key(self) -> NetworkKey | None:
        """The key of the file, if one was named.  IdentityError as :meth:`NetworkKey.load`."""
        from netmesh_trio.identity import NetworkKey

        return None if self.network_key is None else NetworkKey.load(self.network_key)


_FILE = FilePath()

_OPTIONS = [
    click.option(
        "--identity",
        metavar="FILE",
        envvar="NETMESH_IDENTITY",
        type=_FILE,
        help="Key file of this node; made if it is not there. [default: a new key for this run]",
    ),
    click.option(
        "--bind",
        metavar="HOST:PORT",
        envvar="NETMESH_BIND",
        multiple=True,
        callback=_parse_bind,
        help="Local address; repeat for more. [default: any free port, of IPv4 and of IPv6]",
    ),
    click.option(
        "--bootstrap",
        metavar="URI",
        envvar="NETMESH_BOOTSTRAP",
        multiple=True,
        callback=_parse_bootstrap,
        help="A node to join the mesh by, netmesh://PEER@HOST:PORT; repeat for more.",
    ),
    click.option(
        "--no-direct", is_flag=True, envvar="NETMESH_NO_DIRECT", help="Stay on the relay, never look for direct paths."
    ),
    click.option(
        "--network-key",
        metavar="FILE",
        envvar="NETMESH_NETWORK_KEY",
        type=_FILE,
        help="Key file of a private mesh: nodes without it are not answered.",
    ),
    click.option(
        "--port-mapping",
        is_flag=True,
        envvar="NETMESH_PORT_MAPPING",
        help="Ask the router to let in what others send here (PCP, NAT-PMP, UPnP).",
    ),
]


def timeout_option(default: float, text: str) -> Callable[[_Function], _Function]:
    """Add ``--timeout``, in seconds; ``text`` says of what."""
    return click.option(
        "--timeout",
        metavar="S",
        type=Number(0, min_open=True),
        default=default,
        show_default=True,
        help=text,
    )


def from_option(name: str, text: str) -> Callable[[_Function], _Function]:
    """Add ``--from``: the peers, as the keyword ``name``, that a command serves.  None means everybody."""
    return click.option("--from", name, metavar="PEER", multiple=True, callback=parse_peer, help=text)


def json_option(function: _Function) -> _Function:
    """Add ``--json``; which of the two is wanted is read before anything else, see ``main``."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        help="Print events as JSON, one object a line, for programs.",
    )(function)


def relay_option(default: RelayPolicy) -> Callable[[_Function], _Function]:
    """Add ``--relay``."""
    return click.option(
        "--relay",
        type=click.Choice(["off", "members", "any"]),
        default=default,
        show_default=True,
        envvar="NETMESH_RELAY",
        help="Whose traffic to carry: nobody's, that of its private mesh, that of any node.",
    )


def _start_logging(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value:
        return
    import logging

    logger = logging.getLogger("netmesh_trio")
    if not logger.handlers:  # given twice, it is one log all the same
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def verbose_option(function: _Function) -> _Function:
    """Add ``-v``: the library's log (sessions and paths that come and go) on stderr."""
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_start_logging,
        help="Log sessions and paths that come and go, on stderr.",
    )(function)


def node_options(function: _Function) -> _Function:
    """Add the common options and ``--json``, see :func:`quiet_node_options`."""
    return json_option(quiet_node_options(function))


def quiet_node_options(function: _Function) -> _Function:
    """Add the common options, which the function takes as one keyword ``node``."""

    def with_options(**values: Any) -> Any:
        return function(node=_collect(values), **values)

    with_options.__doc__ = function.__doc__
    with_options.__name__ = function.__name__
    # Options that the function has already stay with it.
    wrapped: Any = with_options
    wrapped.__click_params__ = getattr(function, "__click_params__", [])
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    result: _Function = verbose_option(wrapped)
    return result


# Has the options that may stand in front of a command, too.
_COMMON = click.command()(node_options(lambda node, as_json: None))


def behind_command(arguments: list[str]) -> list[str]:
    """The same command line with common options and ``--json`` moved from before the command to behind it."""
    flags = {
        name: option.is_flag for option in _COMMON.params if isinstance(option, click.Option) for name in option.opts
    }
    kept: list[str] = []
    moved: list[str] = []
    rest = list(arguments)
    while rest:
        name, equals, _ = rest[0].partition("=")
        if name in {"-v", "--verbose"}:
            kept.append(rest.pop(0))
            continue
        if name not in flags:
            break
        moved.append(rest.pop(0))
        if not equals and not flags[name] and rest:
            moved.append(rest.pop(0))
    if not rest or rest[0].startswith("-"):
        return arguments  # no command behind them
    return [*kept, rest[0], *moved, *rest[1:]]


def _collect(values: dict[str, Any]) -> NodeOptions:
    """Take the common options out of the values of a command line."""
    if values.get("relay") == "members" and values["network_key"] is None:
        raise click.UsageError("--relay members is for a private mesh: give its --network-key")
    taken: Mapping[str, Any] = {
        "identity": values.pop("identity"),
        "bind": tuple(values.pop("bind")),
        "bootstrap": tuple(values.pop("bootstrap")),
        "direct": not values.pop("no_direct"),
        "network_key": values.pop("network_key"),
        "port_mapping": values.pop("port_mapping"),
        "relay": values.pop("relay", "off"),
    }
    return NodeOptions(**taken)
