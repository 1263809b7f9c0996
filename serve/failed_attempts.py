"""How often an address may send keys that do not work. Pure but for the clock it is given.

A key has 256 random bits, so this is not what keeps it from being guessed; it keeps those who try, or who have
forgotten a client with a dead key, from filling the log and the key store's time. Memory is bounded.
"""

import ipaddress
import time
from collections.abc import Callable
from typing import Final

from lakebed.serve.limits import SlidingWindow

_MOST_ADDRESSES: Final = 10_000

_ALL_TOGETHER: Final = 20
"""All addresses may fail so many times as often as one: a guesser may have many."""

_SUBNET_BITS: Final = 64
"""One IPv6 customer has at least such a network, and so all of its addresses."""


class FailedAttempts:
    """Counts failures for each client address, and for all together, over a minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._together = SlidingWindow()
        self._addresses: dict[str, SlidingWindow] = {}  # least recently failed first

    def __len__(self) -> int:
        return len(self._addresses)

    def seconds_until_allowed(self, address: str | None) -> float:
        """In how many seconds another failure of this address will be within bounds; 0 when it is."""
        now = self._clock()
        wait = self._together.seconds_until(self._per_minute * _ALL_TOGETHER - 1, now)
        window = self._addresses.get(_network(address))
        return max(wait, window.seconds_until(self._per_minute - 1, now) if window else 0.0)

    def note(self, address: str | None) -> None:
        """Count one failure."""
        now, network = self._clock(), _network(address)
        window = self._addresses.pop(network, None) or SlidingWindow()
        while self._addresses and self._first_is_of_no_use(now):
            del self._addresses[next(iter(self._addresses))]
        self._addresses[network] = window
        window.add(1, now)
        self._together.add(1, now)

    def _first_is_of_no_use(self, now: float) -> bool:
        first = next(iter(self._addresses.values()))
        return len(self._addresses) >= _MOST_ADDRESSES or first.total(now) == 0


def _network(address: str | None) -> str:
    """What is counted as one client: an IPv4 address, an IPv6 network, or what cannot be told apart."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return ""
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed.packed, _SUBNET_BITS), strict=False))
