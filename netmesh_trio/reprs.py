"""How values with many fields show themselves."""

from __future__ import annotations

import enum
from typing import Any

import attrs

__all__ = ["show_changed"]


def show_changed(value: attrs.AttrsInstance, but: str = "") -> str:
    """``Name(field=...)`` with the fields that differ from their defaults (a counter's: from 0), for ``__repr__``; all
    ``but`` one, if that says nothing new.
    """
    shown = []
    for field in attrs.fields(type(value)):
        found = getattr(value, field.name)
        if field.name != but and found != _default(field, value):
            shown.append(f"{field.name}={found.value if isinstance(found, enum.Enum) else repr(found)}")
    return f"{type(value).__name__}({', '.join(shown)})"


def _default(field: attrs.Attribute[Any], value: object) -> object:
    default = field.default
    if default is attrs.NOTHING:
        return 0
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default.factory(value) if default.takes_self else default.factory()  # type: ignore[union-attr]
    return default
