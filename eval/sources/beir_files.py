"""Reading a folder in the form of BEIR: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.

A line of the first two has `_id` and `text`, a document also a `title`; in place of the text, or beside it,
`series` may be channels x samples, which BEIR does not know. A line of judgements is query id, document id and
grade, below a header.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lakebed.eval.judgements import Grades
from lakebed.platform.errors import DatasetNotFoundError, InvalidItemError
from lakebed.platform.items import Item

FORM: Final = "BEIR's form, a folder with corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
_LINE: Final = 'a line is {"_id": "…", "title": "…", "text": "…"}, or with "series": channels x samples'


def is_beir(folder: Path, split: str) -> bool:
    """Whether all three files are there."""
    files = ("corpus.jsonl", "queries.jsonl", f"qrels/{split}.tsv")
    return all((folder / name).is_file() for name in files)


def read(folder: Path, split: str) -> tuple[dict[str, Item | None], dict[str, Item], dict[str, Grades]]:
    """Documents (None for an empty one), queries and grades; raises DatasetNotFoundError naming the bad line."""
    documents = _items(folder / "corpus.jsonl")
    queries = {}
    for name, item in _items(folder / "queries.jsonl").items():
        if item is None:
            raise DatasetNotFoundError(f"{folder / 'queries.jsonl'}: query {name!r} is empty", hint=_LINE)
        queries[name] = item
    return documents, queries, _grades(folder / "qrels" / f"{split}.tsv")


def _items(path: Path) -> dict[str, Item | None]:
    found: dict[str, Item | None] = {}
    for where, line in _lines(path):
        try:
            value = json.loads(line)
            name = str(value["_id"])
            item = _item(value)
        except (ValueError, KeyError, TypeError, AttributeError, InvalidItemError) as error:
            raise DatasetNotFoundError(f"{where}: {_said(error)}", hint=_LINE) from None
        if name in found:
            raise DatasetNotFoundError(f"{where}: the id {name!r} occurs twice")
        found[name] = item
    return found


def _item(value: dict[str, Any]) -> Item | None:
    """An item of title and text, one space between them, and of the series; None without any."""
    parts = (value.get("title") or "", value.get("text") or "")
    text = " ".join(part.strip() for part in parts if part.strip())
    series = value.get("series")
    if not text and series is None:
        return None
    names, rate = value.get("channel_names"), value.get("sampling_rate")
    return Item.of(text or None, series, names, rate)


def _grades(path: Path) -> dict[str, Grades]:
    found: dict[str, dict[str, int]] = {}
    for number, (where, line) in enumerate(_lines(path)):
        fields = line.split("\t")
        try:
            query, document, grade = fields
            found.setdefault(query, {})[document] = int(grade)
        except ValueError:
            if number:  # the first line is the header, where there is one
                raise DatasetNotFoundError(
                    f"{where}: no judgement",
                    hint="expected query id, document id and a whole number, tab-separated",
                ) from None
    return dict(found)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}, line {number}", line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read: {error}") from None


def _said(error: Exception) -> str:
    return f"no field {error}" if isinstance(error, KeyError) else str(error)
