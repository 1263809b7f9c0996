"""Which rows of a table are trained on and which tested: as a column says, or by a hash of their keys.

Knows neither tables nor labels' meaning.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Sides = npt.NDArray[np.str_]
"""`train`, `test`, or the empty string for a row that is neither."""

_NAMED: Final = ("train", "test")


def split_by_column(values: Sequence[Any]) -> Sides:
    """Sides as a column says them; other values are neither."""
    return np.array([value if value in _NAMED else "" for value in values], dtype=np.str_)


def split_by_hash(keys: Sequence[str], strata: Sequence[str], share: float, seed: int) -> Sides:
    """Test `share` of the distinct keys of each stratum, those whose hash with the seed is least.

    The order of rows does not matter, and rows of one stratum with the same key are on the same side. A stratum
    with two keys or more has one on each side at least; a single key is trained on.
    """
    keys_of: dict[str, set[str]] = {}
    for key, stratum in zip(keys, strata, strict=True):
        keys_of.setdefault(stratum, set()).add(key)
    tested = {stratum: _drawn(found, share, seed) for stratum, found in keys_of.items()}
    sides = ["test" if key in tested[stratum] else "train" for key, stratum in zip(keys, strata, strict=True)]
    return np.array(sides, dtype=np.str_)


def _drawn(keys: set[str], share: float, seed: int) -> set[str]:
    count = min(max(round(share * len(keys)), 1), len(keys) - 1)
    return set(sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())[:count])
