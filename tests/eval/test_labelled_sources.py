"""Labelled texts, pairs and tables as data sets: small ones in the real forms, and what is wrong with bad ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from lakebed.eval.brought_vectors import brought_vectors
from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.entries import source_of
from lakebed.eval.run import evaluate
from lakebed.eval.table_split import split_by_hash
from lakebed.platform.config.entries.classification import Classification
from lakebed.platform.config.entries.pair_classification import PairClassification
from lakebed.platform.config.entries.regression import Regression
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.errors import (
    ColumnNotFoundError,
    ConfigError,
    DatasetNotFoundError,
    LakebedError,
    TableError,
    TableNotFoundError,
)
from lakebed.platform.items import Item
from lakebed.platform.lake.storage import delta_options


def text_set(folder: Path, train: str, test: str = "text,category\nhi,a\n") -> Classification:
    folder.mkdir(parents=True)
    (folder / "train.csv").write_text(train, encoding="utf-8")
    (folder / "test.csv").write_text(test, encoding="utf-8")
    return Classification(task="classification", source="folder", path=folder)


def test_texts_with_classes_are_read_from_csv(tmp_path: Path) -> None:
    entry = text_set(tmp_path / "bank", 'text,category\n"lost, and\nfound",card\nhow?,help\n')
    for place in (entry, entry.of_folder(tmp_path)):
        (data,) = source_of(place).load()
        assert data.name == "bank"
        assert [item.text for item in data.parts["train"].items] == ["lost, and\nfound", "how?"]
        assert data.parts["train"].labels.tolist() == ["card", "help"]


def test_trec_questions_have_their_coarse_class(tmp_path: Path) -> None:
    (tmp_path / "train_5500.label").write_bytes("NUM:dist How far is Málaga ?\n".encode("latin-1"))
    (tmp_path / "TREC_10.label").write_text("HUM:ind Who was Galileo ?\n")
    (data,) = source_of(Classification(task="classification", source="folder", path=tmp_path)).load()
    assert data.parts["train"].items[0].text == "How far is Málaga ?"
    assert (data.parts["train"].labels[0], data.parts["test"].labels[0]) == ("NUM", "HUM")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("text,kind\nhi,a\n", "train.csv: has columns text, kind"),
        ("text,category\n ,a\n", "train.csv, line 2: text is empty"),
        ("text,category\nhi,\n", "train.csv, line 2: the label is empty"),
        ("text,category\n", "holds no texts"),
    ],
)
def test_texts_of_another_form_are_named(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=message):
        list(source_of(text_set(tmp_path / "bad", train)).load())


def test_sets_of_numbers_and_sets_of_classes_are_told_apart() -> None:
    numbers = source_of(Regression(task="regression", source="bundled"))
    assert numbers.names() == ["CardanoSentiment", "Covid3Month"]
    assert not set(numbers.names()) & set(
        source_of(Classification(task="classification", source="bundled")).names()
    )
    covid = next(data for data in numbers.load() if data.name == "Covid3Month")
    assert (len(covid.parts["train"]), len(covid.parts["test"])) == (140, 61)
    assert float(covid.parts["test"].labels[0]) >= 0


def pairs_folder(folder: Path, name: str, content: str) -> PairClassification:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    return PairClassification(task="pair_classification", path=folder)


def test_pairs_come_from_json_lines_tables_and_scored_sentences(tmp_path: Path) -> None:
    lines = [{"first": "a", "second": [[1, 2]], "label": 1}, {"sentence1": "b", "sentence2": "c", "labels": 0}]
    scored = "g\tf\ty\t1\t4.2\tone\tuno\ng\tf\ty\t2\t3.9\ttwo\tdos\n"
    for number, (name, content) in enumerate(
        [
            ("test.jsonl", "\n".join(map(json.dumps, lines))),
            ("test.tsv", "first\tsecond\tlabel\na\tb\t1\nc\td\t0\n"),
            ("sts-test.csv", scored),
        ]
    ):
        (data,) = source_of(pairs_folder(tmp_path / str(number), name, content)).load()
        assert data.parts["first"].labels.tolist() == ["1", "0"]
        assert len(data.parts["second"]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"first": "a", "second": "b"}', "line 1: no field 'label'"),
        ('{"first": "a", "second": "b", "label": 0.5}', "label 0.5 is neither 0 nor 1"),
        ('{"first": "", "second": "b", "label": 1}', "line 1: text is empty"),
        ("[1]", "line 1: no object"),
        ("nothing", "line 1: Expecting value"),
        ("", "holds no pairs"),
    ],
)
def test_a_pair_of_another_form_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=message):
        list(source_of(pairs_folder(tmp_path / "p", "test.jsonl", content)).load())


def table_entry(uri: str, **fields: Any) -> Classification:
    described = {"uri": uri, "label_column": "label", **fields}
    return Classification.model_validate({"task": "classification", "source": "table", "table": described})


def notes(rows: int = 20) -> pa.Table:
    return pa.table(
        {
            "id": list(range(rows)),
            "note": [f"note {number}" for number in range(rows)],
            "label": ["good", "bad"] * (rows // 2),
            "side": (["train"] * 3 + ["test", "later"]) * (rows // 5),
        }
    )


def test_a_table_with_a_label_column_is_a_data_set(place: Callable[[str], str]) -> None:
    uri = place("notes")
    write_deltalake(uri, notes(), storage_options=delta_options(uri))
    entry = table_entry(uri, columns={"text": "{id}: {note}"}, split_column="side")
    assert source_of(entry).names() == ["notes"]
    (data,) = source_of(entry).load()
    assert (data.version, data.source) == ("delta-0", uri)
    assert [len(data.parts[side]) for side in ("train", "test")] == [12, 4]
    assert {item.text for item in data.parts["test"].items} == {f"{row}: note {row}" for row in (3, 8, 13, 18)}
    assert data.notes == ("4 rows are neither train nor test by side, left out",)


def written(tmp_path: Path, table: pa.Table) -> str:
    pq.write_table(table, tmp_path / "table.parquet")
    return str(tmp_path / "table.parquet")


def test_without_a_split_column_each_class_is_split_by_key(tmp_path: Path) -> None:
    uri = written(tmp_path, notes())
    (data,) = source_of(table_entry(uri, columns={"text": "note", "keys": ["id"]})).load()
    assert sorted(data.parts["test"].labels) == ["bad"] * 3 + ["good"] * 3
    turned = written(tmp_path, notes().take(list(range(19, -1, -1))))
    (again,) = source_of(table_entry(turned, columns={"text": "note", "keys": ["id"]})).load()
    assert again.digest == data.digest
    assert again.parts["test"].keys == data.parts["test"].keys


def test_rows_with_one_key_stay_together() -> None:
    keys = ["a", "a", "b", "c", "c", "d"] * 2
    sides = split_by_hash(keys, ["x"] * 12, 0.5, 0)
    assert all(len({side for side, other in zip(sides, keys, strict=True) if other == key}) == 1 for key in "abcd")
    assert split_by_hash(["only"], ["x"], 0.5, 0).tolist() == ["train"]


def embedded(tmp_path: Path, rows: int = 40, **columns: Any) -> str:
    """Write what an embedding job leaves, with vectors that tell the classes apart."""
    codes = np.arange(rows) % 2
    vectors = np.eye(4)[codes] + 0.1 * np.random.default_rng(0).standard_normal((rows, 4))
    table = {
        "label": codes,
        "lb_key": [f"key{number}" for number in range(rows)],
        "lb_model_digest": [FakeEncoder(4).info.digest] * rows,
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), 4),
    }
    return written(tmp_path, pa.table(table | columns))


def suite_of(entry: Classification) -> Suite:
    return Suite(name="own", description="own", entries=(entry,))


def test_an_embedded_table_is_measured_without_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEncoder, "prepare", lambda *_: pytest.fail("nothing is to be encoded"))
    result = evaluate(FakeEncoder(4), suite_of(table_entry(embedded(tmp_path), vector_column="embedding")))
    assert result.figures()["table.parquet/classification/knn_accuracy"] == 1
    (one,) = result.measured
    assert np.linalg.norm(one.vectors["test"], axis=1) == pytest.approx(1, abs=1e-6)
    assert one.data.parts["test"].keys[0].startswith("key")


def test_vectors_of_another_model_are_refused(tmp_path: Path) -> None:
    suite = suite_of(table_entry(embedded(tmp_path), vector_column="embedding"))
    with pytest.raises(ConfigError, match="its vectors were made by model digest"):
        evaluate(FakeEncoder(8), suite)


def test_the_same_rows_embedded_by_another_model_are_the_same_data(tmp_path: Path) -> None:
    digests = []
    for name, vectors in (("a", np.ones((40, 2))), ("b", np.ones((40, 3)))):
        (tmp_path / name).mkdir()
        uri = embedded(tmp_path / name, embedding=list(vectors))
        (data,) = source_of(table_entry(uri, vector_column="embedding")).load()
        digests.append(data.digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[0.0, 0.0], [1.0, 0.0]], "1 of the vectors it brings are zero or not finite"),
        ([[float("nan"), 1.0], [1.0, 0.0]], "1 of the vectors it brings are zero or not finite"),
    ],
)
def test_vectors_that_mean_nothing_are_an_error(vectors: list[list[float]], message: str) -> None:
    brought = Part([], np.array(["a", "b"]), vectors=np.array(vectors, np.float32), contents=["x", "y"])
    with pytest.raises(LakebedError, match=message):
        brought_vectors(Dataset("d", "1", "here", {"test": brought}), FakeEncoder(2).info, None)


def test_parts_with_vectors_of_two_lengths_are_an_error() -> None:
    parts = {
        name: Part([], np.array(["a"]), vectors=np.ones((1, length), np.float32), contents=["x"])
        for name, length in (("train", 2), ("test", 3))
    }
    with pytest.raises(LakebedError, match=r"brings vectors of \[2, 3\] dimensions"):
        brought_vectors(Dataset("d", "1", "here", parts), FakeEncoder(2).info, None)


@pytest.mark.parametrize(
    ("columns", "fields", "error", "message"),
    [
        ({"label": ["a"] * 4}, {}, ConfigError, "holds one class in 4 rows"),
        ({"label": ["a", None, "b", None]}, {}, ConfigError, "label column 'label' holds 2 nulls"),
        ({}, {"label_column": "kind"}, ColumnNotFoundError, "no column 'kind'"),
        ({}, {"split_column": "side"}, ColumnNotFoundError, "no column 'side'"),
        ({"embedding": [[1.0], None, [1.0], [1.0]]}, {}, TableError, "holds 1 nulls"),
        ({"embedding": [[1.0], [1.0, 2.0], [1.0], [1.0]]}, {}, TableError, r"vectors of \[1, 2\] dimensions"),
        ({"embedding": ["x"] * 4}, {}, TableError, "holds string, not vectors"),
        ({"lb_model_digest": ["a", "b", "a", "b"]}, {}, TableError, "holds vectors of 2 models"),
    ],
)
def test_a_table_that_cannot_be_measured_on_says_why(
    tmp_path: Path, columns: dict[str, Any], fields: dict[str, str], error: type[LakebedError], message: str
) -> None:
    entry = table_entry(embedded(tmp_path, 4, **columns), **{"vector_column": "embedding", **fields})
    with pytest.raises(error, match=message):
        list(source_of(entry).load())


def test_rows_that_are_no_items_are_counted_until_they_are_too_many(tmp_path: Path) -> None:
    table = notes()
    for bad, expected in ((1, "1 of 20 rows are no items and are left out"), (5, "do `columns` name the right")):
        texts = pa.array([None if number < bad else f"note {number}" for number in range(20)])
        entry = table_entry(written(tmp_path, table.set_column(1, "note", texts)), columns={"text": "note"})
        if bad == 1:
            (data,) = source_of(entry).load()
            assert expected in data.notes[0]
            assert data.rows == 19
        else:
            with pytest.raises(TableError, match=expected):
                list(source_of(entry).load())


def test_a_table_that_is_not_there_is_an_error_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError):
        source_of(table_entry(str(tmp_path / "nothing"), columns={"text": "note"})).names()


def test_numbers_are_predicted_from_a_table_only_where_labels_are_numbers(tmp_path: Path) -> None:
    table = {"uri": written(tmp_path, notes()), "label_column": "label", "columns": {"text": "note"}}
    entry = Regression.model_validate({"task": "regression", "source": "table", "table": table})
    with pytest.raises(TableError, match="holds string, not numbers"):
        source_of(entry).names()
    numbered = entry.table.model_copy(update={"label_column": "id"}) if entry.table else None
    (data,) = source_of(entry.model_copy(update={"table": numbered})).load()
    assert len(data.parts["test"]) == 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give `columns` to be embedded, or the `vector_column`"),
        ({"columns": {"text": "a"}, "key_column": "b"}, "key_column goes with vector_column"),
        ({"columns": {"text": "a"}, "label_columns": "b"}, "unknown field"),
    ],
)
def test_a_table_entry_that_is_unclear_is_an_error(fields: dict[str, Any], message: str) -> None:
    table = {"uri": "t", "label_column": "label", **fields}
    entries = [{"task": "clustering", "source": "table", "table": table}]
    with pytest.raises(ConfigError, match=message):
        Suite.parse({"name": "x", "description": "x", "entries": entries}, where="test")


def test_rows_both_trained_on_and_tested_are_noted() -> None:
    train, test = ["a", "b", "c"], ["c", "d", "c"]
    parts = {
        name: Part([Item.of(text=text) for text in texts], np.array(texts))
        for name, texts in (("train", train), ("test", test))
    }
    data = Dataset("d", "1", "here", parts)
    assert list(data.remarks) == ["2 of 3 test rows are in the train part too (equal content keys)"]
