"""Which answers are right for a query, as labels say it: those that share a mark with it.

A label is one mark, or several, a line each: a caption is marked with itself, a series with every caption that was
written for it. Knows no vectors.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from lakebed.eval.datasets import LabelArray

_SEPARATOR: Final = "\n"


def mark(caption: str) -> str:
    """A caption as its words: case, spaces and a full stop at the end do not make it another one."""
    return " ".join(caption.casefold().split()).rstrip(" .")


def marks(captions: Iterable[str]) -> str:
    """The label of what all these captions describe."""
    return _SEPARATOR.join(sorted({mark(caption) for caption in captions}))


def right_answers(queries: LabelArray, answers: LabelArray) -> Any:
    """Sparse boolean matrix, queries x answers: true where the two share a mark."""
    number: dict[str, int] = {}
    for label in (*queries, *answers):
        for one in label.split(_SEPARATOR):
            number.setdefault(one, len(number))
    return (_incidence(queries, number) @ _incidence(answers, number).T).astype(bool)


def _incidence(labels: LabelArray, number: dict[str, int]) -> Any:
    from scipy.sparse import csr_array

    found = [(row, number[one]) for row, label in enumerate(labels) for one in label.split(_SEPARATOR)]
    rows, columns = np.array(found).T
    return csr_array((np.ones(len(found), np.int32), (rows, columns)), shape=(len(labels), len(number)))
