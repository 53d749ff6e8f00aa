"""The public interface as text: every name with its signature.

``python -m tests.public_api`` writes it to ``tests/public-api.txt``, and ``tests/test_public_api.py`` fails while the
two differ.  So nothing that programs rely on changes unseen.
"""

from __future__ import annotations

import abc
import enum
import importlib
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ForwardRef, Generic

import attrs

import netmesh_trio

LISTING = Path(__file__).with_name("public-api.txt")
REFERENCE = Path(__file__).parent.parent / "docs" / "reference.rst"
PACKAGE = "netmesh_trio"
#: The doors, as far as there are any; all else may change in any release.
DOORS = (
    "netmesh_trio",
    "netmesh_trio.traversal",
    "netmesh_trio.testing",
    "netmesh_trio.anyio",
    "netmesh_trio.lowlevel",
)

DULL_BASES = (object, Exception, BaseException, abc.ABC, Generic)


def doors() -> Iterator[types.ModuleType]:
    root = Path(netmesh_trio.__file__).parent
    for name in DOORS:
        path = root.joinpath(*name.split(".")[1:])
        if path.is_dir() or path.with_suffix(".py").is_file():
            yield importlib.import_module(name)


def default_text(value: object) -> str:
    """A default that reads the same on every Python; of what has no short constant form, that there is one."""
    if isinstance(value, enum.Enum):
        return str(f"{type(value).__name__}.{value.name}")
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, tuple):
        inner = ", ".join(map(default_text, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return "..."


def annotation_text(annotation: object) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", text)


def signature_text(function: Any) -> str:
    """As it would stand in a stub file."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return "(...)"
    parts: list[str] = []
    slash = star = False
    for parameter in signature.parameters.values():
        kind = parameter.kind
        if slash and kind is not parameter.POSITIONAL_ONLY:
            parts.append("/")
        slash = kind is parameter.POSITIONAL_ONLY
        if kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        star = star or kind is parameter.VAR_POSITIONAL
        stars = "*" if kind is parameter.VAR_POSITIONAL else "**" if kind is parameter.VAR_KEYWORD else ""
        text = stars + parameter.name
        annotation = annotation_text(parameter.annotation)
        if annotation:
            text += f": {annotation}"
        if parameter.default is not parameter.empty:
            text += f" = {default_text(parameter.default)}"
        parts.append(text)
    if slash:
        parts.append("/")
    result = annotation_text(signature.return_annotation)
    return f"({', '.join(parts)})" + (f" -> {result}" if result else "")


def member_lines(name: str, member: object) -> Iterator[str]:
    if isinstance(member, staticmethod | classmethod):
        yield f"@{type(member).__name__} {name}{signature_text(member.__func__)}"
    elif isinstance(member, property):
        kind = "property" if member.fset is None else "settable property"
        assert member.fget is not None
        yield f"@{kind} {name}: {annotation_text(inspect.signature(member.fget).return_annotation)}"
    elif inspect.isfunction(member):
        prefix = "async " if inspect.iscoroutinefunction(member) else ""
        yield f"{prefix}{name}{signature_text(member)}"


def not_for_programs() -> Iterator[tuple[tuple[str, str], frozenset[str]]]:
    """By module and class, what the reference leaves out: members, and ``__init__`` where it shows none."""
    module = PACKAGE
    for now, name, parentheses, options in re.findall(
        r"^\.\. (?:(?:current|auto)?module:: (.*)\n|autoclass:: (\w+)(\(\))?\n((?:   :.*\n)*))",
        REFERENCE.read_text(encoding="utf-8"),
        re.MULTILINE,
    ):
        if now:
            module = now
            continue
        excluded = re.findall(r":exclude-members: (.*)", options)
        names = {name.strip() for line in excluded for name in line.split(",")}
        yield (module, name), frozenset(names | ({"__init__"} if parentheses else set()))


def field_lines(cls: type) -> Iterator[str]:
    fields = attrs.fields_dict(cls) if attrs.has(cls) else {}
    annotations: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith(PACKAGE):
            annotations.update(vars(base).get("__annotations__", {}))
    for name, annotation in annotations.items():
        if name.startswith("_"):
            continue
        default = fields[name].default if name in fields else attrs.NOTHING
        yield f"{name}: {annotation_text(annotation)}" + (
            "" if default is attrs.NOTHING else f" = {default_text(default)}"
        )


def class_lines(cls: type, hidden: frozenset[str]) -> Iterator[str]:
    """The class, how it is made where programs make it, and its members, inherited ones of ours included."""
    bases = [base for base in cls.__mro__[1:] if base not in DULL_BASES and not base.__name__.startswith("_")]
    yield f"class {cls.__name__}({', '.join(base.__name__ for base in bases)})"
    if issubclass(cls, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in cls)
        return
    if "__init__" in vars(cls) and "__init__" not in hidden:
        if attrs.has(cls):
            by_keyword = all(field.kw_only for field in attrs.fields(cls) if field.init)
            yield f"    made of its fields, by {'keyword' if by_keyword else 'position'}"
        else:
            yield f"    __init__{signature_text(vars(cls)['__init__'])}"
    yield from (f"    {line}" for line in field_lines(cls))
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith(PACKAGE):
            members.update(vars(base))
    for name, member in sorted(members.items()):
        if not name.startswith("_") and name not in hidden:
            yield from (f"    {line}" for line in member_lines(name, member))


def lines() -> Iterator[str]:
    yield f"# The public interface of netmesh_trio {netmesh_trio.__version__}; python -m tests.public_api writes this."
    hidden = dict(not_for_programs())
    for module in doors():
        yield ""
        yield f"[{module.__name__}]"
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if isinstance(value, types.GenericAlias):  # which is a class, too, before Python 3.11
                yield f"{name} = {value}"
            elif inspect.isclass(value):
                shown_at_first = hidden.get((PACKAGE, name), frozenset())
                yield from class_lines(value, hidden.get((module.__name__, name), shown_at_first))
            elif inspect.isfunction(value):
                yield from member_lines(name, value)
            elif isinstance(value, types.UnionType):
                yield f"{name} = {' | '.join(getattr(part, '__name__', str(part)) for part in value.__args__)}"
            elif isinstance(value, int):
                yield f"{name} = {value}"
            elif isinstance(value, Mapping):
                yield f"{name}: {', '.join(value)}"
            else:
                yield f"{name}: {type(value).__name__}"


def text() -> str:
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    LISTING.write_text(text(), encoding="utf-8")
