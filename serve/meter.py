"""How fast a device works: cost per second of its own time, the last seconds counting most. Knows no clock."""

import math
from typing import Final

_REMEMBERED_SECONDS: Final = 3.0
_ENOUGH_SECONDS: Final = 0.1
"""Device time after which the figure is worth something."""


class Meter:
    """An exponentially weighted mean over device time."""

    def __init__(self) -> None:
        self._cost = 0.0
        self._seconds = 0.0

    def add(self, cost: int, seconds: float) -> None:
        """Count what took so many seconds; devices beside each other get as much more done in them."""
        kept = math.exp(-seconds / _REMEMBERED_SECONDS)
        self._cost = self._cost * kept + cost
        self._seconds = self._seconds * kept + seconds

    @property
    def rate(self) -> float | None:
        """Cost per second; None while too little has run to tell."""
        return None if self._seconds < _ENOUGH_SECONDS else self._cost / self._seconds
