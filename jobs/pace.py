"""How fast rows are done: over the last minute, and since the first of them. Arithmetic; knows no clock."""

from collections import deque
from typing import Final

RECENT_SECONDS: Final = 60.0
_SECONDS_BETWEEN_POINTS: Final = 1.0


class Pace:
    """Counts rows over time. Rates leave out start-up, and what was done until the first account of it."""

    def __init__(self) -> None:
        self.rows = 0
        self._began: tuple[float, int] | None = None
        self._points: deque[tuple[float, int]] = deque()

    def add(self, rows: int, now: float) -> None:
        """Count rows that are done at `now`, in seconds of any clock that only goes forward."""
        self.rows += rows
        if self._began is None:
            self._began = now, self.rows
            self._points.append(self._began)
        elif now - self._points[-1][0] >= _SECONDS_BETWEEN_POINTS:
            self._points.append((now, self.rows))

    def recent(self, now: float) -> float | None:
        """Rows per second over the last RECENT_SECONDS, or since the first rows when that is less."""
        while len(self._points) > 1 and self._points[1][0] <= now - RECENT_SECONDS:
            self._points.popleft()
        return self._since(self._points[0], now) if self._points else None

    def overall(self, now: float) -> float | None:
        """Rows per second since the first rows."""
        return self._since(self._began, now) if self._began else None

    def _since(self, point: tuple[float, int], now: float) -> float | None:
        """None until there is something to tell a rate from."""
        seconds, rows = now - point[0], self.rows - point[1]
        begun = self._began is not None and self.rows > self._began[1]
        return rows / seconds if begun and seconds > 0 else None
