"""Timeouts as programs give them."""

from __future__ import annotations

import math

from ._references import ARGUMENT


def seconds_of(timeout: float) -> float:
    """A timeout as a float: numbers of every kind, and of every size."""
    if type(timeout) is float and timeout == timeout:
        return timeout
    if isinstance(timeout, (str, bytes, bytearray)):
        raise TypeError(ARGUMENT.after(f"a timeout is a number of seconds, not {timeout!r}"))
    try:
        seconds = float(timeout)
    except OverflowError:
        return math.inf if timeout > 0 else -math.inf
    if math.isnan(seconds):
        raise ValueError(ARGUMENT.after("a timeout is a number of seconds: nan is none"))
    return seconds
