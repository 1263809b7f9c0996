"""Reading sentence pairs, human captions, class words and trials: small folders in the real forms."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from lakebed.eval.datasets import Dataset
from lakebed.eval.entries import source_of
from lakebed.eval.relevance import right_answers
from lakebed.platform.config.entries.cross_modal import CrossModal
from lakebed.platform.config.entries.level import Level
from lakebed.platform.config.entries.sts import Sts
from lakebed.platform.config.entries.zero_shot import ZeroShot
from lakebed.platform.errors import ConfigError, DatasetNotFoundError

STS = (
    "main-captions\tMSRvid\t2012test\t0024\t2.500\tA girl is styling her hair.\tA girl is brushing her hair.\n"
    'main-news\theadlines\t2015\t7\t0.4\tThe "end" is near\tRain\tsource a\tsource b\n'
    "main-forums\tdeft\t2014\t9\t5.000\tHe said so.\tSo he said.\n"
)
CAPTIONS = {
    "a": {"annotations": ["rises", "peaks in the middle", "Flat at the end."], "series": [1, 2, 3]},
    "b": {"annotations": ["flat at the  end", "rises", "dips"], "series": [3, 2, 2]},
    "c": {"annotations": ["falls", "falls", "drops"], "series": [3, 2, 1]},
}
TS = "@problemName {name}\n@timeStamps false\n@univariate true\n@classLabel true Up Down\n@data\n"


def sts_folder(tmp_path: Path, content: str = STS) -> Sts:
    folder = tmp_path / "pairs"
    folder.mkdir(exist_ok=True)
    (folder / "sts-test.csv").write_text(content, encoding="utf-8")
    return Sts(task="sts", path=folder)


def captions_folder(tmp_path: Path, content: object = CAPTIONS) -> CrossModal:
    folder = tmp_path / "people"
    folder.mkdir(exist_ok=True)
    (folder / "pilottest.json").write_text(json.dumps(content))
    (folder / "pilottrain.json").write_text("{}")
    return CrossModal(task="cross_modal", source="either", path=folder)


def named_folder(tmp_path: Path, words: Mapping[str, object] | None = None) -> ZeroShot:
    """Two sets of an archive, one of trials, and words for one more that is not there."""
    for name in ("Waves", "Steps"):
        folder = tmp_path / "archive" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}_TEST.ts").write_text(TS.format(name=name) + "1,2,3:Up\n3,2,1:Down\n4,5,6:Up\n")
    for activity in ("Walk", "Walk_MODEL", "Sit"):
        folder = tmp_path / "wrist" / activity
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"Accelerometer-2011-01-01-00-00-00-{activity}-f1.txt").write_text("0 63 21\n42 0 63\n")
    labels = {"names": {"Up": "going up", "Down": "going down"}}
    activities = {"names": {"Walk": "walk", "Sit": "sit"}}
    named = {"Waves": labels, "Steps": labels, "Absent": labels, "wrist": activities}
    (tmp_path / "class_names.json").write_text(json.dumps(named if words is None else words))
    return ZeroShot(task="zero_shot", path=tmp_path)


def only(entry: Sts | CrossModal, limit: int | None = None) -> Dataset:
    (data,) = source_of(entry).load(limit)
    return data


def test_sentence_pairs_are_read_without_quoting_and_with_extra_fields(tmp_path: Path) -> None:
    data = only(sts_folder(tmp_path))
    assert data.name == "pairs"
    assert data.parts["first"].labels.tolist() == ["2.500", "0.4", "5.000"]
    assert [item.text for item in data.parts["first"].items][1] == 'The "end" is near'
    assert [item.text for item in data.parts["second"].items][1:] == ["Rain", "So he said."]
    assert only(sts_folder(tmp_path), limit=2).rows == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,b,c\n", "line 4: 1 fields"),
        ("g\tf\ty\t1\thigh\tone\ttwo\n", "line 4: could not convert string to float: 'high'"),
        ("g\tf\ty\t1\tnan\tone\ttwo\n", "line 4: score 'nan' is not finite"),
        ("g\tf\ty\t1\t3\tone\t\n", "line 4: text is empty"),
    ],
)
def test_a_line_that_is_no_sentence_pair_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=message):
        only(sts_folder(tmp_path, STS + line))


def test_people_who_say_the_same_are_right_about_the_same_series(tmp_path: Path) -> None:
    data = only(captions_folder(tmp_path))
    assert (len(data.parts["text"]), len(data.parts["signal"])) == (9, 3)
    right = right_answers(data.parts["text"].labels, data.parts["signal"].labels).toarray().astype(int)
    both, first, second, third = [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]
    assert right.tolist() == [both, first, both, both, both, second, third, third, third]
    assert only(captions_folder(tmp_path), limit=2).rows == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": {"annotations": ["up"]}}, "pilottest.json, 'a': 'series'"),
        ({"a": {"annotations": [" "], "series": [1]}}, "'a': text is empty"),
        ({"a": {"annotations": [], "series": [1]}}, "'a': no captions"),
        ([1], "holds no captioned series"),
        ({}, "holds no captioned series"),
    ],
)
def test_captions_of_another_form_are_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=message):
        only(captions_folder(tmp_path, content))


def test_sets_with_words_are_found_in_the_folder_and_one_deeper(tmp_path: Path) -> None:
    source = source_of(named_folder(tmp_path))
    assert source.names() == ["Waves", "Steps", "wrist"]
    assert source.missing() == ["Absent"]
    waves = next(source.load())
    assert waves.parts["test"].labels.tolist() == ["going up", "going down", "going up"]
    assert len(waves.parts["class"]) == 2 * 4
    assert waves.parts["class"].items[1].text == "a recording of going up"


@pytest.mark.parametrize(("place", "names"), [("archive", ["Waves", "Steps"]), ("archive/Steps", ["Steps"])])
def test_words_may_lie_above_the_folder(tmp_path: Path, place: str, names: list[str]) -> None:
    entry = named_folder(tmp_path)
    assert source_of(entry.of_folder(tmp_path / place)).names() == names


def test_trials_are_in_g_with_their_rate_and_no_model_is_read_twice(tmp_path: Path) -> None:
    entry = named_folder(tmp_path).model_copy(update={"names": ("wrist",)})
    (data,) = source_of(entry).load()
    assert data.parts["test"].labels.tolist() == ["sit", "walk"]
    item = data.parts["test"].items[0]
    assert item.series is not None
    np.testing.assert_allclose(item.series, [[-1.5, 0.5], [1.5, -1.5], [-0.5, 1.5]])
    assert item.sampling_rate == 32


def test_a_trial_of_another_form_is_named(tmp_path: Path) -> None:
    entry = named_folder(tmp_path).model_copy(update={"names": ("wrist",)})
    (tmp_path / "wrist" / "Sit" / "Accelerometer-2.txt").write_text("1 2\n")
    with pytest.raises(DatasetNotFoundError, match=r"Accelerometer-2.txt: expected lines of three whole numbers"):
        list(source_of(entry).load())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"Waves": {"names": {"Up": "up"}}}, "no words for class 'down'"),
        ({"Waves": {"names": {"Up": "same", "Down": "same"}}}, "two classes have the same words"),
        ({"Waves": {"labels": {}}}, "class_names.json, Waves: "),
    ],
)
def test_words_that_do_not_fit_the_classes_are_an_error(
    tmp_path: Path, words: Mapping[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        list(source_of(named_folder(tmp_path, words)).load())


def test_a_set_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    entry = named_folder(tmp_path)
    with pytest.raises(DatasetNotFoundError, match="no data set 'Absent'"):
        source_of(entry.model_copy(update={"names": ("Absent",)})).names()
    with pytest.raises(DatasetNotFoundError, match="none of the data sets"):
        source_of(named_folder(tmp_path, {"Absent": {"names": {"a": "b"}}})).names()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Sts(task="sts"), "no sts-test.csv here"),
        (CrossModal(task="cross_modal", source="folder"), "no captioned series here"),
        (ZeroShot(task="zero_shot"), "no class_names.json"),
    ],
)
def test_a_folder_of_something_else_says_what_was_expected(
    tmp_path: Path, entry: Sts | CrossModal | ZeroShot, message: str
) -> None:
    with pytest.raises(ConfigError, match="--data DIR"):
        source_of(entry).names()
    with pytest.raises(DatasetNotFoundError, match=rf"{message}.*expected"):
        source_of(entry.of_folder(tmp_path)).names()


def test_level_pairs_lie_one_after_the_other() -> None:
    (data,) = source_of(Level(task="level", pairs=3)).load()
    assert data.name == "levels-3"
    low, high = (data.parts["signal"].items[place].series for place in (0, 1))
    assert low is not None
    assert high is not None
    assert np.ptp(high - low) < 1e-6 * np.ptp(low)


def test_generated_pairs_grade_each_other_by_attributes() -> None:
    (data,) = source_of(CrossModal(task="cross_modal", pool=20)).load()
    attributes = data.parts["text"].attributes
    assert attributes is not None
    assert attributes.shape == (20, 9)
    assert (attributes == data.parts["signal"].attributes).all()
