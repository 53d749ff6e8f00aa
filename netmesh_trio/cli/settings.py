"""``--config``: the options of a command from a TOML file.  Environment and command line win over it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from netmesh_trio.cli.options import FilePath

__all__ = ["config_option"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
#: Those that are read before a file could be.
_NOT_IN_FILES = ("config", "json", "help")


def config_option(function: _Function) -> _Function:
    """Add ``--config``, which fills in what the command line and the environment leave open."""
    return click.option(
        "--config",
        metavar="FILE",
        type=FilePath(),
        envvar="NETMESH_CONFIG",
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=_read,
        help="TOML file with these options, by their names without dashes in front.",
    )(function)


def _read(ctx: click.Context, param: click.Parameter, file: Path | None) -> None:
    if file is None:
        return
    options = {
        option.removeprefix("--"): parameter
        for parameter in ctx.command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--") and option.removeprefix("--") not in _NOT_IN_FILES
    }
    values: dict[str, Any] = {}
    for key, value in _load(file).items():
        option = options.get(key)
        if option is None:
            known = ", ".join(sorted(options))
            raise click.UsageError(f"config file {str(file)!r} has the key {key!r}; it may have {known}")
        values[option.name or key] = _value(file, key, option, value)
    ctx.default_map = values


def _load(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        with file.open("rb") as opened:
            values: dict[str, Any] = tomllib.load(opened)
            return values
    except OSError as error:
        raise click.UsageError(f"cannot read config file {str(file)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"config file {str(file)!r} is not TOML: {error}") from None


def _value(file: Path, key: str, option: click.Option, value: Any) -> Any:
    """The value as click takes it."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise _wrong(file, key, value, "true or false")
        return value
    if option.multiple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _wrong(file, key, value, 'a list of strings, such as ["..."]')
        return value
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _wrong(file, key, value, 'a string, such as "..."')
    if isinstance(option.type, click.Path):
        # beside the file that names it, wherever the command runs
        return str(file.absolute().parent / str(value))
    return str(value)


def _wrong(file: Path, key: str, value: object, wanted: str) -> click.UsageError:
    return click.UsageError(f"config file {str(file)!r} has {key} = {value!r}; give {wanted}")
