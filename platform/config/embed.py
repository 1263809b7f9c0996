"""What an embedding job is: the model of `job.yaml`, and of the options of `lakebed embed`.

Knows no ray and no torch: a laptop checks a job in a moment.
"""

import hashlib
import json
import re
from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from lakebed.platform.config.base import Config
from lakebed.platform.config.cluster import ClusterConfig
from lakebed.platform.config.iceberg import is_iceberg
from lakebed.platform.config.storage import SinkConfig, TableConfig, normal_uri
from lakebed.platform.config.windows import WINDOW_COLUMNS, WINDOW_SERIES, WindowsConfig, columns_of_windows
from lakebed.platform.errors import ConfigError
from lakebed.platform.filter_text import parse_filter
from lakebed.platform.text_template import TextTemplate

_ACTORS: Final = re.compile(r"(\d+)(?:-(\d+))?")

RESERVED_PREFIX: Final = "lb_"
EMBEDDING: Final = "embedding"


def _share(value: Any) -> Any:
    """Read a percentage as the share that it is."""
    if isinstance(value, str) and value.strip().endswith("%"):
        return float(value.strip()[:-1]) / 100
    return value


class SourceConfig(TableConfig):
    """A table to embed, or some of its rows."""

    filter: str | None = None
    """Which rows, such as `site == 'north' and year >= 2024`. Default: all."""

    @field_validator("filter")
    @classmethod
    def _can_be_read(cls, text: str | None) -> str | None:
        try:
            if text is not None:
                parse_filter(text)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return text


class ColumnsConfig(Config):
    """Which columns make an item, and which travel along."""

    text: str | None = None
    """Column of text, or a text made of several: `"{site}: {note}"`, numbers and dates as in `{level:.2f}`."""

    null_text: str | None = None
    """What stands in a text made of several columns for one that is null. Default: such a row is an error."""

    series: str | None = None
    """Column of time series, one per row: a list of channels, each a list of numbers; or one list of numbers."""

    series_layout: Literal["channels_first", "samples_first"] = "channels_first"
    """Whether a series is a list of channels, or a list of samples that each have a number per channel."""

    channels: tuple[str, ...] = ()
    """Columns that each hold one channel, a list of numbers; instead of `series`."""

    keys: tuple[str, ...] = ()
    """Columns that identify a row; copied to the result and to the quarantine table."""

    keep: tuple[str, ...] = ()
    """Further columns to copy to the result."""

    @field_validator("text")
    @classmethod
    def _is_a_template(cls, text: str | None) -> str | None:
        if text is not None:
            TextTemplate.parse(text)
        return text

    @model_validator(mode="after")
    def _makes_an_item(self) -> Self:
        if self.series and self.channels:
            raise ValueError("give `series` or `channels`, not both")
        if not (self.text or self.series or self.channels):
            raise ValueError("nothing to embed: name a `text`, a `series` or `channels` column")
        copied = self.copied
        for name in copied:
            reserved = name.startswith(RESERVED_PREFIX) and name not in WINDOW_COLUMNS
            if reserved or name == EMBEDDING:
                raise ValueError(f"column {name!r} cannot be copied: the result has its own column of that name")
        if len(set(copied)) != len(copied) or len(set(self.channels)) != len(self.channels):
            raise ValueError("a column is named twice")
        if self.series_layout == "samples_first" and not self.series:
            raise ValueError("series_layout is given, but no series column")
        if self.null_text is not None and (self.template is None or not self.template.fields):
            raise ValueError("null_text is given, but text is not made of several columns")
        return self

    @property
    def template(self) -> TextTemplate | None:
        """How the text is made; raises ValueError when `text` is no template."""
        return None if self.text is None else TextTemplate.parse(self.text)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns that the text is made of."""
        return self.template.columns if self.template else ()

    @property
    def copied(self) -> tuple[str, ...]:
        """Columns that are copied to the result."""
        return (*self.keys, *self.keep)

    @property
    def read(self) -> tuple[str, ...]:
        """Columns that must be read, each once."""
        payload = [name for name in (*self.text_columns, self.series, *self.channels) if name]
        return tuple(dict.fromkeys((*payload, *self.copied)))


class Actors(Config):
    """How many encoders are at work at once. A bare number is that many; `2-8` is from 2 to 8."""

    min: int = Field(default=1, ge=1)
    """How many there are at first, and at least; the job waits for a cluster that has to bring them."""

    max: int = Field(default=1, ge=1)
    """At most; above `min`, they come and go with the rows that wait."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min must not be above max, but {self.min} is above {self.max}")
        return self


class ComputeConfig(Config):
    """What the job uses of its cluster."""

    actors: Actors | Literal["auto"] = "auto"
    """Encoders at work at once: a number, a range such as `2-8` for a cluster that grows, or `auto`: one per GPU
    when `gpus` is set, else one per `threads` CPUs that are there, but no more than one for every 512 rows."""

    preparers: Actors | Literal["auto", 0] = "auto"
    """Processes beside the encoders that tokenize and resample for them: a number, a range, 0 for none, or `auto`:
    none on CPUs, where an encoder does that itself; with `gpus`, from one to as many as CPUs are left."""

    actor_memory_gib: float = Field(default=1, gt=0)
    """Memory that one encoder, or preparer, reserves: no more of them start on a machine than it can hold."""

    threads: int = Field(default=1, ge=1)
    """CPU threads of one encoder. Several encoders of one thread beat one of several: nothing waits in step."""

    gpus: float = Field(default=0, ge=0)
    """GPUs of one encoder; 0 runs on CPU, 0.5 puts two encoders on each GPU."""

    batch_rows: int = Field(default=2048, ge=1)
    """Most rows handed to an encoder at once; small tables get less, so that every encoder has work."""

    batch_cost: int | None = Field(default=None, ge=1)
    """Largest padded device batch, in token equivalents. Default: the encoder's own."""

    part_rows: int | None = Field(default=None, ge=1)
    """Rows of one data file. Default: by the size of the table, at most 65,536."""

    commit_seconds: float = Field(default=300, gt=0)
    """Seconds between commits: what is staged becomes visible, and a run that dies loses no more than that."""

    cache_bytes: int = Field(default=32 * 1024**2, ge=0)
    """Memory of each encoder for vectors of contents that may come again, in bytes; 0 embeds them again."""

    io_cpus: float = Field(default=0.2, gt=0)
    """CPUs that one reading or writing task reserves; they mostly wait for the store."""

    @field_validator("actors", "preparers", mode="before")
    @classmethod
    def _from_a_number_or_range(cls, actors: Any, info: ValidationInfo) -> Any:
        if actors in (0, "0") and info.field_name == "preparers":
            return 0
        if isinstance(actors, int) and not isinstance(actors, bool):
            return {"min": actors, "max": actors}
        if isinstance(actors, str) and (found := _ACTORS.fullmatch(actors.strip())):
            return {"min": int(found[1]), "max": int(found[2] or found[1])}
        return actors


class ValidationConfig(Config):
    """What makes the vectors of a job suspicious, so that it ends without committing them."""

    max_equal_vectors: float = Field(default=0.2, ge=0, le=1)
    """Share of rows that may have the very vector of a row with other content; 0.2 or "20%".

    A broken model has one vector for everything. To a sound one, too, texts are equal that differ in case only, or
    only beyond its window.
    """

    @field_validator("max_equal_vectors", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        return _share(value)


class EmbedJob(Config):
    """One embedding job: what to read, how rows become items, with which model, and where vectors go."""

    source: SourceConfig
    """Table to embed; its version is pinned when the job starts."""

    windows: WindowsConfig | None = None
    """How a source of one row per sample is cut into windows; then `columns` may give a text at most."""

    columns: ColumnsConfig
    """Which columns make an item."""

    sink: SinkConfig
    """Table of vectors. It holds the results of one job: same source, columns and dimensions."""

    model: str = "lakebed-embed"
    """Model reference: lakebed-embed, NAME@VERSION, NAME@ALIAS, ./folder, package.module:Class, fake:64."""

    dimensions: int | None = Field(default=None, ge=1)
    """Length of the vectors. Default: the model's own."""

    channel_names: tuple[str, ...] | None = None
    """Names of the channels, the same for every row."""

    sampling_rate: float | None = Field(default=None, gt=0)
    """Samples per second, the same for every row."""

    quarantine: str | None = None
    """Table of rows that could not be embedded, of the sink's format. Default: beside it, `<sink>_quarantine`."""

    max_quarantined: float = Field(default=0.1, ge=0, le=1)
    """Share of rows that may be quarantined before the job stops and commits nothing; 0.1 or "10%".

    A tenth is far above the dirt of ordinary tables and far below what a wrongly mapped column yields. Give 1 to
    accept any share.
    """

    validation: ValidationConfig = ValidationConfig()
    """What is checked before a commit."""

    compute: ComputeConfig = ComputeConfig()
    """Actors, threads, batches."""

    cluster: ClusterConfig = ClusterConfig()
    """The Ray to run on."""

    experiment: str | None = "lakebed-embed"
    """MLflow experiment that gets a run per job; null keeps the job out of MLflow."""

    @model_validator(mode="before")
    @classmethod
    def _windows_are_embedded(cls, values: Any) -> Any:
        windows = values.get("windows") if isinstance(values, dict) else None
        if not isinstance(windows, dict):
            return values
        return {**values, "columns": columns_of_windows(values.get("columns"), windows.get("entity"))}

    @field_validator("max_quarantined", mode="before")
    @classmethod
    def _share(cls, value: Any) -> Any:
        return _share(value)

    @field_validator("quarantine")
    @classmethod
    def _place(cls, uri: str | None) -> str | None:
        return None if uri is None else normal_uri(uri)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.channel_names and not (self.columns.series or self.columns.channels):
            raise ValueError("channel_names is given, but no series or channels column")
        if self.columns.channels and self.channel_names and len(self.channel_names) != len(self.columns.channels):
            raise ValueError(
                f"{len(self.channel_names)} channel_names for {len(self.columns.channels)} channels columns"
            )
        if self.quarantine and is_iceberg(self.quarantine) != (self.sink.format == "iceberg"):
            raise ValueError("quarantine has the sink's format: both iceberg:NAMESPACE.TABLE, or neither")
        if len({self.source.uri, self.sink.uri, self.quarantine_table.uri}) < 3:
            raise ValueError("source, sink and quarantine must be three different tables")
        if self.windows is not None:
            self._check_windows(self.windows)
        return self

    def _check_windows(self, windows: WindowsConfig) -> None:
        if self.sampling_rate is None:
            raise ValueError("windows need the sampling_rate: gaps and durations are told by it")
        windows.samples(self.sampling_rate)
        columns = self.columns
        if (columns.series, columns.channels, columns.series_layout) != (WINDOW_SERIES, (), "channels_first"):
            raise ValueError("windows make the series: name its columns in windows.channels, not in columns")
        if columns.keys != windows.entity or not set(columns.keep) <= set(WINDOW_COLUMNS):
            raise ValueError("windows make the keys: name them in windows.entity; a window has no other columns")
        others = sorted(set(columns.text_columns) - set(windows.entity))
        if others:
            raise ValueError(f"columns.text: a window has no {others[0]!r}, only its entity columns")
        if self.channel_names and len(self.channel_names) != len(windows.channels):
            raise ValueError(
                f"{len(self.channel_names)} channel_names for {len(windows.channels)} windows.channels"
            )

    @property
    def quarantine_table(self) -> SinkConfig:
        """The quarantine table; it has the sink's format and catalog."""
        uri = self.quarantine or f"{self.sink.uri}_quarantine"
        return SinkConfig(uri=uri, format=self.sink.format, catalog=self.sink.catalog)

    @property
    def key(self) -> str:
        """32 hex digits that identify what the sink holds, whatever the model, version or machine."""
        identity = {
            "source": [self.source.uri, self.source.catalog],
            "columns": self.columns.model_dump(),
            "dimensions": self.dimensions,
            "channel_names": self.channel_names,
            "sampling_rate": self.sampling_rate,
        }
        identity |= self.rows_identity
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def rows_identity(self) -> dict[str, Any]:
        """What says which rows there are, beside the table: filter and windows, where there are any."""
        windows = self.windows and self.windows.model_dump(mode="json", exclude_defaults=True, exclude={"folder"})
        given = {"filter": self.source.filter, "windows": windows}
        return {name: value for name, value in given.items() if value}
