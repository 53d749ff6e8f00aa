"""What programs give to be sent, as bytes: other types are refused, and wide items are not taken for bytes."""

from __future__ import annotations

__all__ = ["octets"]


def octets(data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    """The same data, such that its ``len()`` is its number of bytes and slices of it are bytes.

    Any buffer will do, a numpy array for one; only what is not contiguous in memory is copied.  Raises TypeError, with
    what to do, for everything else.
    """
    if isinstance(data, (bytes, bytearray)):
        return data
    if isinstance(data, str):
        raise TypeError("bytes can be sent, not str: encode it, as in text.encode()")
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(
            f"bytes can be sent, or another buffer such as a bytearray or a memoryview, not {type(data).__name__}"
        ) from None
    if view.ndim == 1 and view.itemsize == 1 and view.contiguous:
        return view
    return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
