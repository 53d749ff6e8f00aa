"""Locks on files between processes of one host, where there are such."""

from __future__ import annotations

__all__ = ["try_lock"]


def try_lock(fd: int) -> bool:
    """Lock an open file until it is closed; False if another process has it.

    True without a lock on Windows, where an open file cannot be replaced or removed anyway, and on file systems that
    know none.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
