"""XML as routers send it, read without what makes XML dangerous.

The parser is expat, and it ends where a document type begins: there are no entities of the sender's own, so nothing
expands and nothing is fetched.  Prefixes of names are ignored, since many routers declare them wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.parsers import expat

import attrs

from ....wire.errors import DecodeError

__all__ = ["MAX_DEPTH", "MAX_ELEMENTS", "Element", "read_tree_untrusted"]

MAX_DEPTH = 32
"""Elements within each other; a description of a router has about ten."""

MAX_ELEMENTS = 4000
"""In one document; a description of a router has about a hundred."""


@attrs.frozen
class Element:
    """An element: its name without prefix, its own text without the blanks around it, and what is in it."""

    name: str
    text: str
    children: tuple[Element, ...]

    def first(self, name: str) -> Element | None:
        """The first child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def text_of(self, name: str) -> str:
        """The text of the first child of that name; empty if there is none."""
        child = self.first(name)
        return "" if child is None else child.text

    def walk(self) -> Iterator[Element]:
        """This element and all within it, in the order of the document."""
        yield self
        for child in self.children:
            yield from child.walk()


@attrs.define
class _Open:
    """An element whose end has not come yet."""

    name: str
    text: list[str] = attrs.Factory(list)
    children: list[Element] = attrs.Factory(list)


class _Builder:
    def __init__(self) -> None:
        self._stack = [_Open("")]
        self._count = 0

    def document_type(self, *_: object) -> None:
        raise DecodeError("XML with a document type")

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > MAX_ELEMENTS or len(self._stack) > MAX_DEPTH:
            raise DecodeError("XML with too many elements, or too many in each other")
        self._stack.append(_Open(name.rpartition(":")[2]))

    def end(self, _name: str) -> None:
        done = self._stack.pop()
        self._stack[-1].children.append(Element(done.name, "".join(done.text).strip(), tuple(done.children)))

    def characters(self, text: str) -> None:
        self._stack[-1].text.append(text)

    def root(self) -> Element:
        (element,) = self._stack[0].children  # expat sees to it
        return element


def read_tree_untrusted(document: bytes) -> Element:
    """The root of a document.  The caller limits its size.

    It is UTF-8, as UPnP prescribes, or taken for Latin-1: what matters is ASCII, and some routers write the name of
    their maker in what they please.  NULs and blanks around it are left off.

    :raises DecodeError: if it is not well-formed, declares a document type, or exceeds the limits.
    """
    document = document.strip(b"\0 \t\r\n")
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = document.decode("latin-1")
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.document_type  # before anything that is in it
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.characters
    try:
        parser.Parse(text, True)  # for str the encoding that the document declares is not asked
    except expat.ExpatError as error:
        raise DecodeError(f"not XML: {error}") from None
    return builder.root()
