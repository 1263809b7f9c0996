"""What a model was trained on, and data sets that hold some of it."""

from pathlib import Path

import numpy as np
import pytest

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.leakage import checked_for_leakage, overlap
from lakebed.eval.run import evaluate
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.artifact import (
    CARD,
    CONFIG,
    TENSORS,
    TRAINING,
    files_of,
    read_artifact,
    write_artifact,
)
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.load import packaged_model, resolve_model
from lakebed.platform.encoder.training_record import TrainingRecord, record_training, trained_on
from lakebed.platform.errors import ArtifactError
from lakebed.platform.items import Item

PAIRS = Suite.parse(
    {"name": "pairs", "description": "d", "entries": [{"task": "cross_modal", "pool": 12}]}, where="suite"
)


def items(*names: str) -> list[Item]:
    return [Item.of(text=name) for name in names]


def record(*names: str) -> TrainingRecord:
    return TrainingRecord.of(item.content_key() for item in items(*names))


def model(folder: Path, **config: object) -> Path:
    return write_artifact(folder, {"name": "small", **config}, {"weight": np.zeros(2, np.float32)}, "# small").path


def test_rows_that_were_trained_on_are_counted_by_part() -> None:
    parts = {
        "train": Part(items("a", "b", "b"), np.array(["x", "x", "y"])),
        "test": Part([*items("c", "d"), Item.of(text="a", series=[1.0])], np.array(["x", "x", "y"])),
    }
    data = Dataset("letters", "1", "here", parts)
    assert overlap(record("b", "d", "e", "f"), data) == {"train": 2, "test": 1}
    assert overlap(record(), data) == {"train": 0, "test": 0}


def test_a_record_knows_each_of_its_items_and_no_other() -> None:
    names = [f"item {number}" for number in range(2000)]
    kept = record(*names[::2])
    assert kept.holds([item.content_key() for item in items(*names)]).tolist() == [True, False] * 1000
    assert len(record("a", "a")) == 1


def test_a_record_lies_beside_a_model_and_does_not_change_it(tmp_path: Path) -> None:
    folder = model(tmp_path / "small")
    digest = read_artifact(folder).digest
    assert trained_on(folder) is None
    record_training(folder, record("a", "b"))
    assert read_artifact(folder).digest == digest
    assert files_of(folder) == [CARD, TRAINING, TENSORS, CONFIG]
    found = resolve_model(str(folder)).trained_on()
    assert found is not None
    assert found.holds([item.content_key() for item in items("a", "c")]).tolist() == [True, False]


def test_a_model_that_was_made_by_a_recipe_saw_nothing_recorded(tmp_path: Path) -> None:
    found = trained_on(model(tmp_path / "made", recipe={"seed": 0}))
    assert found is not None
    assert len(found) == 0
    packaged = trained_on(packaged_model())
    assert packaged is not None
    assert len(packaged) == 0
    assert resolve_model("fake:8").trained_on() is None


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = model(tmp_path / "small")
    (folder / TRAINING).write_text("{}")
    with pytest.raises(ArtifactError, match=r"training.safetensors: not a record of training items"):
        trained_on(folder)


def test_an_evaluation_says_what_the_model_had_seen() -> None:
    plain = evaluate(FakeEncoder(16), PAIRS)
    data = plain.measured[0].data
    seen = [item.content_key() for item in data.parts["signal"].items[:5]]
    marked = checked_for_leakage(plain, TrainingRecord.of(seen))
    figures = marked.figures()
    assert figures["synthetic-12/leakage/overlapping_rows"] == 5
    assert figures["synthetic-12/leakage/overlapping_share"] == pytest.approx(5 / 24)
    assert figures["synthetic-12/leakage/overlapping_rows_signal"] == 5
    assert marked.notes == (
        "synthetic-12: the model was trained on 5 of 12 rows of signal: these scores prove little",
    )
    assert marked.headlines() == plain.headlines()
    assert marked.examples().equals(plain.examples())


@pytest.mark.parametrize("known", [None, TrainingRecord.of(()), record("something else")])
def test_an_evaluation_on_unseen_or_unknown_data_stays_as_it_is(known: TrainingRecord | None) -> None:
    plain = evaluate(FakeEncoder(16), PAIRS)
    marked = checked_for_leakage(plain, known)
    assert marked.figures().keys() == plain.figures().keys()
    assert marked.notes == plain.notes
