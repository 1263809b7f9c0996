"""Functions of tensors that run without Python: compiled by TorchScript, where torch has it.

Threads that run forwards beside each other otherwise wait for Python's interpreter lock before every operation,
and in a server also for the thread that reads requests (decision 0017). Knows no model.
"""

import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import ParamSpec, TypeVar

import torch

_log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@cache
def scripted(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function, once; what torch cannot compile stays Python, with the same results.

    TorchScript is deprecated for exporting models; nothing that came after it runs without a compiler or Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            compiled: Callable[P, R] = torch.jit.script(function)
    except Exception:  # noqa: BLE001 - its front end raises many kinds, and Python can always do it
        _log.debug("%s runs in Python", function.__name__, exc_info=True)
        return function
    return compiled
