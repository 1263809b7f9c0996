"""An evaluation suite as YAML: which data sets, by which tasks, with which fixed probes.

Knows neither how data is read nor how a task is computed.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from lakebed.platform.config.base import Config
from lakebed.platform.errors import ConfigError

TEMPLATES: Final = ("{}", "a recording of {}", "a time series of {}", "sensor readings: {}")
"""Sentences that class words are put into; written before anything was measured with them, and not tuned since."""


class LinearProbe(Config):
    """StandardScaler, then multinomial logistic regression; part of a score's identity."""

    C: PositiveFloat = 1.0
    """Inverse strength of the L2 penalty."""

    max_iter: PositiveInt = 2000
    """Most L-BFGS iterations; how many were needed is logged."""


class NearestNeighbours(Config):
    """k nearest neighbours by cosine similarity, majority vote."""

    k: PositiveInt = 1
    """Number of neighbours."""


class _Measured(Config):
    """What every entry has."""

    dimensions: tuple[PositiveInt, ...] = ()
    """Measure vectors cut to these lengths too: figures that end in `_256d`, from the same embedding pass."""

    @property
    def reads_folder(self) -> bool:
        """Whether `--data` has something to say to it."""
        return False

    @property
    def in_halves(self) -> bool:
        """Whether means over the two fixed halves of the data sets are figures too."""
        return False

    def of_folder(self, folder: Path) -> Self:
        """Return the entry with the folder that `--data` gave."""
        return self.model_copy(update={"path": folder}) if self.reads_folder else self


class _OneSet(_Measured):
    """An entry that measures one data set."""

    @property
    def known_as(self) -> str | None:
        """What `--only` and `--exclude` call it."""
        raise NotImplementedError


class _Sets(_Measured):
    """An entry that measures data sets found in a folder."""

    path: Path | None = None
    """The folder; given here or by `--data`."""

    names: tuple[str, ...] = ()
    """Which sets, in this order; empty means every set found."""

    exclude: tuple[str, ...] = ()
    """Sets to leave out."""


class Classification(_Sets):
    """Labelled time series with a default train and test split; vectors stay frozen."""

    task: Literal["classification"]
    """Chooses this kind of entry."""

    source: Literal["bundled", "folder"]
    """`bundled`: the sets that the installed aeon carries; `folder`: NAME/NAME_{TRAIN,TEST}.ts under a folder."""

    linear_probe: LinearProbe = LinearProbe()
    """The probe."""

    neighbours: NearestNeighbours = NearestNeighbours()
    """The neighbour classifier."""

    @model_validator(mode="after")
    def _bundled_sets_have_no_path(self) -> "Classification":
        if self.source == "bundled" and self.path is not None:
            raise ValueError("path is for source: folder")
        return self

    @property
    def reads_folder(self) -> bool:
        """Bundled sets lie where aeon is installed."""
        return self.source == "folder"

    @property
    def in_halves(self) -> bool:
        """An archive is large enough to choose on one half and report on the other."""
        return self.source == "folder"


class ZeroShot(_Sets):
    """Signals classified by the words for their classes: no label is ever seen."""

    task: Literal["zero_shot"]
    """Chooses this kind of entry."""

    class_names: Path | None = None
    """JSON of the words: `{"SET": {"names": {"label": "words"}}}`; by default class_names.json of the folder."""

    templates: tuple[str, ...] = Field(default=TEMPLATES, min_length=1)
    """Sentences with one `{}` for the words of a class; their vectors are averaged."""

    @field_validator("templates")
    @classmethod
    def _each_has_a_place_for_words(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"{template!r} needs one {{}} where the words of a class go")
        return templates

    @property
    def reads_folder(self) -> bool:
        """There is nothing bundled with class words."""
        return True

    @property
    def in_halves(self) -> bool:
        """As for classification."""
        return True


class CrossModal(_OneSet):
    """Retrieval between captions and the series they describe: generated pairs of the test split, or people's."""

    task: Literal["cross_modal"]
    """Chooses this kind of entry."""

    source: Literal["generated", "folder", "either"] = "generated"
    """`folder`: captions that people wrote, *test.json of a folder; `either`: those when there is a folder."""

    path: Path | None = None
    """The folder; given here or by `--data`."""

    name: str = "synthetic"
    """Name of the generated data set in figures; a folder's is its own."""

    pool: PositiveInt = 1000
    """Generated pairs: every caption is asked against so many series, and the other way round."""

    seed: int = 20261121
    """Seed of the generated pairs."""

    @model_validator(mode="after")
    def _generated_pairs_have_no_path(self) -> "CrossModal":
        if self.source == "generated" and self.path is not None:
            raise ValueError("path is for source: folder, or either")
        return self

    @property
    def reads_folder(self) -> bool:
        """Unless it is told to generate."""
        return self.source != "generated"

    @property
    def is_generated(self) -> bool:
        """Whether it measures generated pairs."""
        return self.source == "generated" or (self.source == "either" and self.path is None)

    @property
    def known_as(self) -> str | None:
        """The name of the generated pairs, or the folder's."""
        return self.name if self.is_generated else _folder_name(self.path)


class Level(_OneSet):
    """Two series that differ in level only, and their captions: which belongs to which."""

    task: Literal["level"]
    """Chooses this kind of entry."""

    name: str = "levels"
    """Name of the data set in figures."""

    pairs: PositiveInt = 300
    """How many pairs of series are generated."""

    seed: int = 20261121
    """Seed of the generated pairs."""

    @property
    def known_as(self) -> str | None:
        """Its name."""
        return self.name


class Sts(_OneSet):
    """Sentence pairs with a human similarity score, in the form of the STS benchmark."""

    task: Literal["sts"]
    """Chooses this kind of entry."""

    path: Path | None = None
    """The folder of sts-dev.csv and sts-test.csv; given here or by `--data`."""

    split: Literal["dev", "test"] = "test"
    """Which of the files."""

    @property
    def reads_folder(self) -> bool:
        """There is nothing bundled."""
        return True

    @property
    def known_as(self) -> str | None:
        """The folder's name."""
        return _folder_name(self.path)


Entry = Annotated[Classification | CrossModal | Level | Sts | ZeroShot, Field(discriminator="task")]


class Suite(Config):
    """A named list of data sets and tasks."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    """What it is called in runs, tags and figures."""

    description: str
    """One line on what it tells."""

    dimensions: PositiveInt | None = None
    """Cut all vectors to so many dimensions (Matryoshka); none means full length. `--dimensions` overrides it."""

    entries: tuple[Entry, ...] = Field(min_length=1)
    """What is measured."""

    def with_options(
        self,
        *,
        data: Path | None = None,
        names: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        dimensions: int | None = None,
    ) -> "Suite":
        """Return the suite narrowed by options of one run; raises ConfigError when one of them has no effect."""
        if data is not None and not any(entry.reads_folder for entry in self.entries):
            raise ConfigError(f"suite {self.name} reads no folder of data sets", hint="leave --data out")
        given = [entry if data is None else entry.of_folder(data) for entry in self.entries]
        single = {entry.known_as for entry in given if isinstance(entry, _OneSet)}
        found = [name for name in names if name not in single]
        entries: list[Entry] = []
        for entry in given:
            if isinstance(entry, _OneSet):
                if entry.known_as not in exclude and (not names or entry.known_as in names):
                    entries.append(entry)
            elif found or not names:
                left_out = (*entry.exclude, *(name for name in exclude if name not in single))
                entries.append(
                    entry.model_copy(update={"names": tuple(found) or entry.names, "exclude": left_out})
                )
        if not entries:
            raise ConfigError(f"suite {self.name}: these options leave no data set")
        return self.model_copy(update={"entries": tuple(entries), "dimensions": dimensions or self.dimensions})


def _folder_name(path: Path | None) -> str | None:
    return None if path is None else path.resolve().name
