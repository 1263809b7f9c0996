"""A lakehouse table with a label column as a data set: its place, what its columns mean, and how it is split."""

from typing import Self

from pydantic import Field, model_validator

from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.config.storage import TableConfig


class LabelledTable(TableConfig):
    """A table whose rows are examples: to be embedded by `columns`, or embedded already in `vector_column`."""

    name: str | None = Field(default=None, pattern=r"^[^/#\s]+$")
    """Name of the data set in figures. Default: the last part of the URI."""

    label_column: str
    """Column of classes, or of numbers for regression; without nulls."""

    columns: ColumnsConfig | None = None
    """Which columns make an item, as in an embedding job; `keys` identify a row."""

    vector_column: str | None = None
    """Column of vectors, lists of numbers: measured as they are, at unit length, nothing is encoded."""

    key_column: str | None = None
    """With vectors: column that identifies what a vector was made from. Default: `lb_key` of an embedding job,
    else the vector itself."""

    split_column: str | None = None
    """Column that says `train` or `test`; rows with other values are left out."""

    test_share: float = Field(default=0.3, gt=0, lt=1)
    """Without `split_column`: share of each class that is tested on, drawn by a hash of seed and key: by
    `columns.keys` or `key_column` where given, else by content."""

    seed: int = 0
    """Seed of that hash."""

    @model_validator(mode="after")
    def _has_something_to_measure(self) -> Self:
        if (self.columns is None) == (self.vector_column is None):
            raise ValueError("give `columns` to be embedded, or the `vector_column` of a table that is embedded")
        if self.key_column is not None and self.vector_column is None:
            raise ValueError("key_column goes with vector_column; with columns, give columns.keys")
        return self

    @property
    def known_as(self) -> str:
        """What figures, `--only` and `--exclude` call it."""
        return self.name or self.uri.rpartition("/")[2].removeprefix("iceberg:").replace("#", "_")
