"""Queries, documents and judgements: folders in the form of BEIR or of the Cranfield collection.

What cannot be measured is left out and noted: documents without any content, and queries that have no relevant
document. A judged document that is not in the corpus stays judged: it counts as not found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.judgements import Grades, Judged
from lakebed.eval.sources import beir_files, cranfield_files
from lakebed.eval.sources.protocol import given_folder
from lakebed.platform.config.entries.retrieval import Retrieval
from lakebed.platform.errors import DatasetNotFoundError
from lakebed.platform.items import Item


@dataclass(frozen=True)
class Collection:
    """What a folder holds: items by id, None for an empty document, and grades by query."""

    documents: dict[str, Item | None] = field(repr=False)
    queries: dict[str, Item] = field(repr=False)
    judged: dict[str, Grades] = field(repr=False)


@dataclass(frozen=True)
class JudgedDocuments:
    """The sets of an entry: parts `queries` and `corpus`, labelled as `judgements.py` says."""

    entry: Retrieval

    def names(self) -> list[str]:
        """The given folder's name, or those of the sets in it; raises DatasetNotFoundError when there are none."""
        have = sorted(self._sets())
        for name in (*self.entry.names, *self.entry.exclude):
            if name not in have:
                raise DatasetNotFoundError(
                    f"{self.entry.path}: no retrieval data set {name!r}", hint=f"here: {', '.join(have) or 'none'}"
                )
        chosen = [name for name in self.entry.names or have if name not in self.entry.exclude]
        if not chosen:
            raise DatasetNotFoundError(
                f"{self.entry.path}: no retrieval data set here", hint=f"expected {self._expected}"
            )
        return chosen

    def missing(self) -> list[str]:
        """A folder is taken as it is."""
        return []

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the sets; `limit` queries, their judged documents, and others until there are `limit`."""
        sets = self._sets()
        for name in self.names():
            folder = sets[name]
            is_beir = beir_files.is_beir(folder, self.entry.split)
            read = beir_files.read(folder, self.entry.split) if is_beir else cranfield_files.read(folder)
            yield _dataset(folder, self.entry.split if is_beir else "1400", Collection(*read), limit)

    @property
    def _expected(self) -> str:
        return f"{beir_files.FORM.format(split=self.entry.split)}; or {cranfield_files.FORM}"

    def _sets(self) -> dict[str, Path]:
        folder = given_folder(self.entry.path, self._expected)
        candidates = (folder, *(path for path in folder.iterdir() if path.is_dir()))
        split = self.entry.split
        found = [
            path for path in candidates if beir_files.is_beir(path, split) or cranfield_files.is_cranfield(path)
        ]
        return {path.name: path for path in found}


def _dataset(folder: Path, version: str, read: Collection, limit: int | None) -> Dataset:
    asked = [
        Judged(query, read.judged[query])
        for query in read.queries
        if any(grade > 0 for grade in read.judged.get(query, {}).values())
    ]
    if not asked:
        raise DatasetNotFoundError(
            f"{folder}: none of {len(read.queries)} queries has a relevant document",
            hint="do the ids of queries and judgements agree?",
        )
    notes = tuple(_notes(read, asked))
    asked = asked[:limit]
    documents = _kept(read, asked, limit)
    if not documents:
        raise DatasetNotFoundError(f"{folder}: the corpus holds no document with content")
    parts = {
        "queries": Part([read.queries[one.query] for one in asked], np.array([one.label for one in asked])),
        "corpus": Part(list(documents.values()), np.array(list(documents))),
    }
    return Dataset(folder.name, version, folder.as_uri(), parts, notes=notes)


def _kept(read: Collection, asked: Sequence[Judged], limit: int | None) -> dict[str, Item]:
    """Documents with content, in order; with a limit, judged ones and so many others as make it full."""
    documents = {name: item for name, item in read.documents.items() if item is not None}
    if limit is None:
        return documents
    judged = {document for one in asked for document in one.grades}
    others = [name for name in documents if name not in judged][: max(0, limit - len(judged))]
    kept = judged.union(others)
    return {name: item for name, item in documents.items() if name in kept}


def _notes(read: Collection, asked: Sequence[Judged]) -> Iterator[str]:
    unjudged = len(read.queries) - len(asked)
    if unjudged:
        yield f"{unjudged} of {len(read.queries)} queries have no relevant document and are left out"
    empty = [name for name, item in read.documents.items() if item is None]
    if empty:
        yield f"{len(empty)} of {len(read.documents)} documents are empty and can never be found"
    absent = {name for one in asked for name, grade in one.grades.items() if grade > 0} - read.documents.keys()
    if absent:
        yield f"{len(absent)} relevant documents are not in the corpus and count as not found"
    strangers = read.judged.keys() - read.queries.keys()
    if strangers:
        yield f"judgements of {len(strangers)} queries that are not there are left out"
