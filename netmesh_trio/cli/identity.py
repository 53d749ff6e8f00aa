"""``netmesh-trio identity``: make a key file, or say whose it is."""

from __future__ import annotations

from pathlib import Path

import click

from netmesh_trio.cli.options import FilePath, json_option
from netmesh_trio.cli.output import Reporter

__all__ = ["identity"]


@click.command()
@click.argument("file", required=False, type=FilePath())
@click.option(
    "--new-network-key",
    "network_key",
    metavar="NEWFILE",
    type=FilePath(),
    help="Write a fresh key for a private mesh to NEWFILE, for --network-key of all its nodes.",
)
@json_option
@click.pass_obj
def identity(reporter: Reporter, file: Path | None, network_key: Path | None) -> int:
    """Make a key file, or print its peer id.

    Prints the peer id of the key in FILE, and makes FILE if it is not there.

    Without FILE, make a key that is forgotten at once: good for a look at what a peer id is.

    \b
    Examples:
        netmesh-trio identity me.key
        netmesh-trio identity --new-network-key mesh.key
    """
    from netmesh_trio.errors import IdentityError

    try:
        if file is not None or network_key is None:
            _identity(reporter, file)
        if network_key is not None:
            _network_key(reporter, network_key)
    except IdentityError as error:
        reporter.error(error.kind, str(error))
        return 1
    return 0


def _identity(reporter: Reporter, file: Path | None) -> None:
    from netmesh_trio.identity import Identity

    existed = file is not None and file.exists()
    key = Identity.generate() if file is None else Identity.load_or_create(file)
    reporter.event(
        "identity",
        str(key.peer_id),
        peer_id=str(key.peer_id),
        file=None if file is None else str(file),
        created=file is not None and not existed,
    )
    if file is not None and not existed:
        reporter.note(f"made {str(file)!r}: keep it secret, it is this identity")


def _network_key(reporter: Reporter, file: Path) -> None:
    from netmesh_trio.identity import NetworkKey

    NetworkKey.generate().save(file)
    reporter.event("network_key", str(file), file=str(file))
    reporter.note(f"made {str(file)!r}: keep it secret, whoever has it belongs to the mesh")
