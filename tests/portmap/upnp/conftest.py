from __future__ import annotations

import pytest
import trio.testing


@pytest.fixture
def idle_clock(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    """Time passes only when nothing has come over loopback for a moment: no wait is long, and none too short."""
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock
