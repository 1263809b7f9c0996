"""What people judged a query's answers with, as the labels of a data set's parts hold it.

A document's label is its id. A query's label is its own id and then a line for each document that was judged: id
and grade, with a tab between them. So the digest of a data set covers the judgements, and a part cut down keeps
its own. Knows no files and no vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lakebed.eval.datasets import LabelArray

Grades = Mapping[str, int]
"""Grade by document id; above 0 is relevant."""


@dataclass(frozen=True)
class Judged:
    """A query's id, and the grade of every document that was judged for it."""

    query: str
    grades: Grades

    @property
    def label(self) -> str:
        """How a part holds it."""
        return "\n".join([self.query, *(f"{document}\t{grade}" for document, grade in self.grades.items())])

    @classmethod
    def of(cls, label: str) -> "Judged":
        """Read a label."""
        query, *lines = str(label).split("\n")
        pairs = (line.rpartition("\t") for line in lines)
        return cls(query, {document: int(grade) for document, _, grade in pairs})


def grade_matrix(judged: Sequence[Judged], documents: LabelArray) -> Any:
    """Sparse integers, queries x documents: the grades above 0 of documents that are there."""
    from scipy.sparse import csr_array

    place = {str(document): position for position, document in enumerate(documents)}
    found = [
        (row, place[document], grade)
        for row, one in enumerate(judged)
        for document, grade in one.grades.items()
        if grade > 0 and document in place
    ]
    rows, columns, grades = np.array(found, np.int64).reshape(-1, 3).T
    return csr_array((grades, (rows, columns)), shape=(len(judged), len(documents)))
