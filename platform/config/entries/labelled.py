"""What entries of labelled data have in common: where the sets come from."""

from typing import Literal, Self

from pydantic import model_validator

from lakebed.platform.config.entries.base import Sets
from lakebed.platform.config.entries.table import LabelledTable


class Labelled(Sets):
    """Sets with a train and a test part, and a label for each example."""

    task: str
    """Chooses the kind of entry."""

    source: Literal["bundled", "folder", "table"]
    """`bundled`: the sets that the installed aeon carries; `folder`: NAME/NAME_{TRAIN,TEST}.ts or texts under a
    folder; `table`: one lakehouse table."""

    table: LabelledTable | None = None
    """The table of source: table."""

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if self.source != "folder" and self.path is not None:
            raise ValueError("path is for source: folder")
        if (self.source == "table") != (self.table is not None):
            raise ValueError("source: table and the field `table` go together")
        return self

    @property
    def reads_folder(self) -> bool:
        """Bundled sets lie where aeon is installed, a table where it says."""
        return self.source == "folder"

    @property
    def is_one_set(self) -> bool:
        """A table is one data set."""
        return self.table is not None

    @property
    def known_as(self) -> str | None:
        """The table's name."""
        return None if self.table is None else self.table.known_as
