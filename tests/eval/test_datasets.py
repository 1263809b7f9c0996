"""Reading real and hand-made data sets."""

from pathlib import Path

import numpy as np
import pytest

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.entries import source_of
from lakebed.eval.series_files import read_split
from lakebed.platform.config.entries.classification import Classification
from lakebed.platform.config.entries.cross_modal import CrossModal
from lakebed.platform.errors import ConfigError, DatasetNotFoundError
from lakebed.platform.items import Item

HEADER = """@problemName Tiny
@timeStamps false
@missing {missing}
@univariate {univariate}
@equalLength {equal}
@classLabel true a b
@data
"""


def write_ts(
    folder: Path, lines: str, *, missing: bool = False, univariate: bool = True, equal: bool = True
) -> Path:
    """Write the same lines as train and test split of a set named like its folder."""
    folder.mkdir(parents=True)
    flags = {"missing": missing, "univariate": univariate, "equal": equal}
    header = HEADER.format(**{name: str(value).lower() for name, value in flags.items()})
    for split in ("TRAIN", "TEST"):
        (folder / f"{folder.name}_{split}.ts").write_text(header + lines)
    return folder


def entry(path: Path, **fields: object) -> Classification:
    return Classification.model_validate({"task": "classification", "source": "folder", "path": path, **fields})


def bundled(*names: str) -> Classification:
    return Classification.model_validate({"task": "classification", "source": "bundled", "names": names})


def test_bundled_sets_have_their_published_sizes() -> None:
    sizes = {
        data.name: (len(data.parts["train"]), len(data.parts["test"]), data.parts["train"].items[0].series)
        for data in source_of(bundled("GunPoint", "BasicMotions", "JapaneseVowels")).load()
    }
    shapes = {
        name: (train, test, series.shape) for name, (train, test, series) in sizes.items() if series is not None
    }
    assert shapes == {
        "GunPoint": (50, 150, (1, 150)),
        "BasicMotions": (40, 40, (6, 100)),
        "JapaneseVowels": (270, 370, (12, 20)),
    }


def test_unequal_lengths_stay_unequal() -> None:
    (data,) = source_of(bundled("PickupGestureWiimoteZ")).load()
    assert len({item.samples for item in data.parts["train"].items}) > 5


def test_a_digest_is_of_content_not_of_place(tmp_path: Path) -> None:
    lines = "1,2,3:a\n4,5,6:b\n"
    (one,) = source_of(entry(write_ts(tmp_path / "x" / "Tiny", lines).parent)).load()
    (same,) = source_of(entry(write_ts(tmp_path / "y" / "Tiny", lines).parent)).load()
    (other,) = source_of(entry(write_ts(tmp_path / "z" / "Tiny", "1,2,3:a\n4,5,6:a\n").parent)).load()
    assert one.digest == same.digest != other.digest
    assert len(one.digest) == 32


def test_digests_of_bundled_data_do_not_drift() -> None:
    (data,) = source_of(bundled("GunPoint")).load()
    assert data.digest == "ad588bcc56b2738d204ce396368aa97a"


def test_missing_values_are_interpolated_and_counted(tmp_path: Path) -> None:
    folder = write_ts(tmp_path / "Tiny", "1,?,3,?:a\n?,5,6,7:b\n", missing=True)
    series, labels, filled = read_split(folder, "TRAIN")
    assert [values.tolist() for values in series] == [[[1, 2, 3]], [[5, 5, 6, 7]]]
    assert (labels, filled) == (["a", "b"], 2)


def test_a_channel_without_any_value_is_an_error(tmp_path: Path) -> None:
    folder = write_ts(tmp_path / "Tiny", "?,?:a\n1,2:b\n", missing=True)
    with pytest.raises(DatasetNotFoundError, match="series 0: a channel holds no value"):
        read_split(folder, "TRAIN")


def test_the_archives_tsv_is_preferred_where_both_splits_have_one(tmp_path: Path) -> None:
    folder = write_ts(tmp_path / "Tiny", "1,2,3:a\n")
    for split in ("TRAIN", "TEST"):
        (folder / f"Tiny_{split}.tsv").write_text("1\t1.5\t2\tNaN\n2\t4\t5\t6\n")
    series, labels, _ = read_split(folder, "TEST")
    assert [values.tolist() for values in series] == [[[1.5, 2]], [[4, 5, 6]]]
    assert labels == ["1", "2"]


def test_every_set_of_a_folder_is_found_but_the_excluded(tmp_path: Path) -> None:
    for name in ("B", "A", "C"):
        write_ts(tmp_path / name, "1,2:a\n3,4:b\n")
    (tmp_path / "notes").mkdir()
    assert source_of(entry(tmp_path)).names() == ["A", "B", "C"]
    assert source_of(entry(tmp_path, exclude=["B"])).names() == ["A", "C"]
    assert source_of(entry(tmp_path, names=["C", "A"])).names() == ["C", "A"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": ["Nope"]}, "no data set 'Nope'"),
        ({"exclude": ["Nope"]}, "no data set 'Nope'"),
        ({}, "no data sets"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=message):
        source_of(entry(tmp_path, **fields)).names()


def test_a_folder_that_is_missing_or_not_given_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="no such folder"):
        source_of(entry(tmp_path / "nope")).names()
    with pytest.raises(ConfigError, match="--data DIR"):
        source_of(Classification(task="classification", source="folder")).names()


def test_a_set_without_a_test_file_or_with_a_broken_one_is_an_error(tmp_path: Path) -> None:
    folder = write_ts(tmp_path / "Tiny", "1,2:a\n")
    (folder / "Tiny_TEST.ts").write_text(
        HEADER.format(missing="false", univariate="true", equal="true") + "1,two:a\n"
    )
    with pytest.raises(DatasetNotFoundError, match="cannot be read as a data set"):
        read_split(folder, "TEST")
    (folder / "Tiny_TEST.ts").unlink()
    with pytest.raises(DatasetNotFoundError, match="no such file"):
        read_split(folder, "TEST")


def test_generated_pairs_are_the_same_every_time_and_say_their_pool() -> None:
    pairs = CrossModal(task="cross_modal", pool=20)
    (one,), (again,) = source_of(pairs).load(), source_of(pairs).load()
    assert (one.name, one.digest) == ("synthetic-20", again.digest)
    (fewer,) = source_of(pairs).load(limit=5)
    assert (fewer.name, fewer.rows) == ("synthetic-5", 10)


def test_a_limit_keeps_the_same_examples_and_changes_the_digest() -> None:
    items = [Item.of(text=f"text {number}") for number in range(30)]
    data = Dataset("d", "1", "here", {"train": Part(items, np.array(["a", "b"] * 15))})
    first, second = data.limited(10), data.limited(10)
    assert first.rows == 10
    assert first.digest == second.digest != data.digest
    assert data.limited(30).digest == data.digest
