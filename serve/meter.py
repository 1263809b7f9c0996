"""How fast a device works: cost per second of its own time, the last seconds counting most. Knows no clock."""

import math
from typing import Final

_REMEMBERED_SECONDS: Final = 3.0
_ENOUGH_SECONDS: Final = 0.1
"""Device time after which the figure is worth something."""


class Meter:
    """An exponentially weighted mean over device time. `devices` work alike, beside each other."""

    def __init__(self, devices: int = 1) -> None:
        self._devices = devices
        self._cost = 0.0
        self._seconds = 0.0

    def add(self, cost: int, seconds: float) -> None:
        """Count a batch that took so many seconds of one device."""
        kept = math.exp(-seconds / _REMEMBERED_SECONDS)
        self._cost = self._cost * kept + cost
        self._seconds = self._seconds * kept + seconds

    @property
    def rate(self) -> float | None:
        """Cost per second of all devices together; None while too little has run to tell."""
        return None if self._seconds < _ENOUGH_SECONDS else self._devices * self._cost / self._seconds
