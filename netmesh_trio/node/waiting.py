"""Where one task waits, and no other: less work for each wake-up than a queue of tasks."""

from __future__ import annotations

import trio

__all__ = ["WaitingPlace"]


class WaitingPlace:
    """A place for one task at a time."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Wait for the next :meth:`wake`.  Whoever calls this makes sure that nobody is waiting already."""
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def wake(self) -> None:
        """Let the task go on, if there is one."""
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)
