"""Reading the Cranfield collection (Cleverdon 1967): cran.all.1400, cran.qry and cranqrel, as SMART marked them
up.

Judgements name a query by its position in the file, from 1, not by the id printed there. Every row of them is a
document that was found relevant, the ones with grade -1 too, and grades fall with relevance: so all count alike.
"""

from pathlib import Path
from typing import Final

from lakebed.eval.judgements import Grades
from lakebed.platform.errors import DatasetNotFoundError
from lakebed.platform.items import Item

FORM: Final = "the Cranfield collection, a folder with cran.all.1400, cran.qry and cranqrel"
_FILES: Final = ("cran.all.1400", "cran.qry", "cranqrel")


def is_cranfield(folder: Path) -> bool:
    """Whether all three files are there."""
    return all((folder / name).is_file() for name in _FILES)


def read(folder: Path) -> tuple[dict[str, Item | None], dict[str, Item], dict[str, Grades]]:
    """Documents (None for an empty one), queries by position, and grades; raises DatasetNotFoundError."""
    documents = {name: Item.of(text) if text else None for name, text in _texts(folder / "cran.all.1400")}
    queries = {
        str(position): Item.of(text)
        for position, (_, text) in enumerate(_texts(folder / "cran.qry"), start=1)
        if text
    }
    grades: dict[str, dict[str, int]] = {}
    path = folder / "cranqrel"
    for number, line in enumerate(_read(path).splitlines(), start=1):
        fields = line.split()
        if len(fields) != 3:
            raise DatasetNotFoundError(f"{path}, line {number}: {len(fields)} fields", hint="expected 3 numbers")
        grades.setdefault(fields[0], {})[fields[1]] = 1
    return documents, queries, dict(grades)


def _texts(path: Path) -> list[tuple[str, str]]:
    """Id and body (.W) of every record; the body of a document begins with its title."""
    found = []
    for record in f"\n{_read(path)}".split("\n.I ")[1:]:
        name, _, rest = record.partition("\n")
        body = f"\n{rest}".partition("\n.W\n")[2]
        found.append((name.strip(), " ".join(body.split())))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read: {error}") from None
