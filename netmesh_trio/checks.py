"""What settings are checked with: attrs validators that say what to give instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from .errors import ConfigError

__all__ = ["boolean", "integer", "is_number", "number", "one_of"]

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def is_number(value: object) -> bool:
    """Whether it is an int or a float; True and False are neither."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(of: str, attribute: attrs.Attribute[Any], value: object, wanted: str) -> ConfigError:
    return ConfigError(f"{of}{attribute.name} is {value!r}; give {wanted}")


def number(low: float, high: float, unit: str, of: str = "") -> Check:
    """A number of some unit, the bounds included; ``of`` stands before the field's name."""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not is_number(value) or not low <= value <= high:  # a NaN is in no range
            raise _wrong(of, attribute, value, f"a number of {unit} from {low:g} to {high:g}")

    return check


def integer(low: int, high: int, unit: str) -> Check:
    """A whole number of some unit, the bounds included."""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _wrong("", attribute, value, f"a whole number of {unit} from {low} to {high}")

    return check


def boolean(of: str = "", *, optional: bool = False) -> Check:
    """True or False themselves, not what equals them; None too if ``optional``."""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, bool) and not (optional and value is None):
            raise _wrong(of, attribute, value, "True, False or None" if optional else "True or False")

    return check


def one_of(*values: str) -> Check:
    """One of some words."""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, str) or value not in values:
            raise _wrong("", attribute, value, f"one of {', '.join(map(repr, values))}")

    return check
