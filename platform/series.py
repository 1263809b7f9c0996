"""A series as callers hold it, to float64 channels x samples: nested lists, arrays, tensors, columns of a frame.

Refuses what is no series of finite numbers, and names the channel and the sample. Knows nothing of items.
"""

from collections.abc import Sequence
from numbers import Number, Real
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from lakebed.platform.errors import InvalidItemError

FloatArray = npt.NDArray[np.float64]


def series_of(value: Any) -> FloatArray:
    """Return `value` as C-contiguous float64, channels x samples; raises InvalidItemError naming the fault.

    A flat sequence of numbers is one channel. Integers and floats of any width are taken. Memory: one copy in
    float64, none when `value` is such an array already.
    """
    given = _array_of(value)
    _check_shape(given)
    with np.errstate(over="ignore"):  # what a long double holds beyond float64 is found to be infinite below
        array = np.ascontiguousarray(np.atleast_2d(given), dtype=np.float64)
    if not np.isfinite(array).all():
        channel, sample = (int(place) for place in np.argwhere(~np.isfinite(array))[0])
        raise InvalidItemError(
            f"time_series holds {array[channel, sample]} at channel {channel}, sample {sample}",
            hint=_FILL,
            code="non_finite",
        )
    return array


_FILL = "drop, fill or cut out missing samples before embedding"


def _check_shape(array: npt.NDArray[Any]) -> None:
    if array.dtype.kind not in "fiu":
        raise InvalidItemError(f"time_series must hold numbers, not {array.dtype}", code="series_type")
    if array.ndim not in (1, 2):
        raise InvalidItemError(
            f"time_series must be channels x samples, not {array.ndim}-dimensional", code="series_shape"
        )
    if array.ndim == 2 and array.shape[0] == 0:
        raise InvalidItemError("time_series has no channels", code="empty_series")
    if array.shape[-1] == 0:
        raise InvalidItemError("time_series has channels without samples", code="empty_series")


def _array_of(value: Any) -> npt.NDArray[Any]:
    """Turn what may hold a series into one array, its numbers as they are."""
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        return _unmasked(value)
    if _is_sequence(value):
        return _stacked(value)
    if not hasattr(value, "__array__") or isinstance(value, np.generic):
        raise InvalidItemError(
            f"time_series must be a list of channels, not {type(value).__name__}",
            hint="one series alone is a list of one item" if isinstance(value, Number) else None,
            code="series_type",
        )
    array = _as_array(value)
    if array.ndim > 1 and hasattr(value, "__arrow_c_stream__"):
        raise InvalidItemError(
            f"time_series is a {type(value).__name__}, whose rows would be taken for channels",
            hint="give an array of channels x samples, such as frame.to_numpy().T",
            code="series_shape",
        )
    return _array_of(array)


def _unmasked(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if np.ma.is_masked(array):
        raise InvalidItemError("time_series has masked samples", hint=_FILL, code="non_finite")
    return array


def _as_array(value: Any) -> npt.NDArray[Any]:
    """Ask an object for its array; a tensor on a GPU or of bfloat16 has none to give."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidItemError(
            f"time_series is a {type(value).__name__} that gives no array: {error}", code="series_type"
        ) from None


def _is_sequence(value: Any) -> bool:
    """Whether a value is a list of some kind, an array of objects included; strings and bytes are not."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "O" and value.ndim == 1
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)


def _is_channel(value: Any) -> bool:
    return _is_sequence(value) or (hasattr(value, "__array__") and np.ndim(value) > 0)


def _stacked(channels: Sequence[Any]) -> npt.NDArray[Any]:
    """Join channels; ragged or non-numeric ones are errors that name the channel."""
    if not len(channels):
        return np.empty((0, 0))
    if all(map(is_number, set(map(type, channels)))):  # at once, as a flat list may be long
        return _numbers(channels, "sample")
    nested = [_is_channel(channel) for channel in channels]
    if not any(nested):
        return _numbers(channels, "sample")
    if not all(nested):
        raise InvalidItemError("time_series mixes channels and bare numbers", code="series_shape")
    arrays = [_numbers(channel, f"channel {place}, sample") for place, channel in enumerate(channels)]
    for place, array in enumerate(arrays):
        if len(array) != len(arrays[0]):
            raise InvalidItemError(
                f"time_series is ragged: channel 0 has {len(arrays[0])} samples, channel {place} has {len(array)}",
                code="ragged",
            )
    return np.stack(arrays)


def _numbers(values: Any, where: str) -> npt.NDArray[Any]:
    """Turn one channel into an array; raises naming its first member that is no number.

    Types are looked at before NumPy sees them, because it takes True for 1 and parses strings.
    """
    if not _is_sequence(values):
        return _channel_array(_unmasked(values) if isinstance(values, np.ndarray) else _as_array(values), where)
    if not all(map(is_number, set(map(type, values)))):
        _refuse_first_that_is_no_number(values, where)
    try:
        return np.array(values, np.float64)
    except OverflowError:
        raise InvalidItemError("time_series must hold only numbers that fit float64", code="series_type") from None


def _channel_array(array: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    if array.ndim != 1:
        raise InvalidItemError(
            f"time_series must be channels x samples, not {array.ndim + 1}-dimensional", code="series_shape"
        )
    if array.dtype.kind == "O":
        return _numbers(array, where)
    if array.dtype.kind not in "fiu":
        raise InvalidItemError(f"time_series must hold numbers, not {array.dtype}", code="series_type")
    return array


def is_number(kind: type) -> bool:
    """Whether values of a type are real numbers; True is none."""
    return issubclass(kind, Real) and not issubclass(kind, bool)


def _refuse_first_that_is_no_number(values: Sequence[Any], where: str) -> NoReturn:
    place, value = next((place, value) for place, value in enumerate(values) if not is_number(type(value)))
    if _is_channel(value):
        raise InvalidItemError(
            f"time_series must be channels x samples, but {where} {place} is itself a list", code="series_shape"
        )
    shown = "null" if value is None else f"a {type(value).__name__}"
    raise InvalidItemError(
        f"time_series must hold only numbers, but {where} {place} is {shown}",
        hint=_FILL if value is None else None,
        code="series_type",
    )
