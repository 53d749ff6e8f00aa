"""The public interface is what tests/public-api.txt says."""

from __future__ import annotations

import difflib

import pytest

from tests import public_api


def test_the_public_interface_is_the_listed_one() -> None:
    listed = public_api.LISTING.read_text(encoding="utf-8")
    difference = "\n".join(
        difflib.unified_diff(listed.splitlines(), public_api.text().splitlines(), "listed", "now", lineterm="")
    )
    assert not difference, (
        f"the public interface changed; if that is meant, tell users in CHANGELOG.md and run"
        f" 'python -m tests.public_api':\n{difference}"
    )


def test_every_door_lists_what_it_has() -> None:
    for module in public_api.doors():
        assert sorted(set(module.__all__)) == sorted(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a, /, b: int, *, c: str = 'x') -> None: ...", "f(a, /, b: int, *, c: str = 'x') -> None"),
        ("async def f(*args: int, **options: object): ...", "async f(*args: int, **options: object)"),
        ("def f(a=object()): ...", "f(a = ...)"),
        ("def f(a=(1, None), b=(2,)): ...", "f(a = (1, None), b = (2,))"),
    ],
)
def test_a_function_reads_as_it_is_written(source: str, expected: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from __future__ import annotations\n{source}", namespace)
    assert list(public_api.member_lines("f", namespace["f"])) == [expected]
