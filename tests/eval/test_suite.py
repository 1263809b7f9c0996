"""Suites as options narrow them."""

import subprocess
import sys
from pathlib import Path

import pytest

from lakebed.eval.catalogue import find_suite
from lakebed.eval.entries import source_of, task_of
from lakebed.platform.config.entries.classification import Classification
from lakebed.platform.config.entries.cross_modal import CrossModal
from lakebed.platform.config.entries.regression import Regression
from lakebed.platform.config.suite import Suite
from lakebed.platform.errors import ConfigError


def test_a_folder_goes_to_the_entries_that_read_one() -> None:
    (entry,) = find_suite("classification").with_options(data=Path("sets"), exclude=("PenDigits",)).entries
    assert isinstance(entry, Classification)
    assert (entry.path, entry.exclude) == (Path("sets"), ("PenDigits",))


def test_every_bundled_entry_of_the_shipped_behaviour_suite_has_data_and_a_task() -> None:
    suite = find_suite("behaviour")
    tasks = [task_of(entry).name for entry in suite.entries]
    assert set(tasks) == {"robustness", "matryoshka", "anomaly", "consistency", "geometry", "cost"}
    assert all(source_of(entry).names() for entry in suite.entries)
    assert tasks[-1] == "cost"  # what the suite is judged by comes first


def test_a_chosen_data_set_leaves_only_its_entry() -> None:
    smoke = find_suite("smoke")
    (real,) = smoke.with_options(names=("GunPoint",)).entries
    assert isinstance(real, Classification)
    assert real.names == ("GunPoint",)
    (generated,) = smoke.with_options(names=("synthetic",)).entries
    assert isinstance(generated, CrossModal)
    (rest,) = smoke.with_options(exclude=("synthetic",)).entries
    assert isinstance(rest, Classification)


def test_options_that_leave_nothing_or_do_nothing_are_errors() -> None:
    with pytest.raises(ConfigError, match="leave no data set"):
        find_suite("cross_modal").with_options(exclude=("synthetic", "levels"))
    with pytest.raises(ConfigError, match="reads no folder"):
        find_suite("smoke").with_options(data=Path("sets"))


def test_dimensions_of_an_option_win_over_the_suites() -> None:
    suite = find_suite("smoke").with_options(dimensions=64)
    assert suite.dimensions == 64
    assert suite.with_options().dimensions == 64
    assert suite.with_options(dimensions=32).dimensions == 32


def test_a_folder_replaces_generated_captions_only_where_either_will_do() -> None:
    plain, given = find_suite("cross_modal"), find_suite("cross_modal").with_options(data=Path("people"))
    assert [entry.task for entry in given.entries] == ["cross_modal", "level"]
    for suite, name in ((plain, "synthetic"), (given, "people")):
        (only,) = suite.with_options(names=(name,)).entries
        assert isinstance(only, CrossModal)
        assert only.is_generated is (name == "synthetic")


def test_a_template_without_a_place_for_words_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"needs one \{\}"):
        Suite.parse(
            {"name": "x", "description": "x", "entries": [{"task": "zero_shot", "templates": ["a signal"]}]},
            where="test",
        )


def test_reading_a_suite_loads_no_model_library() -> None:
    code = "import lakebed.platform.config.suite, sys; print([m for m in ('torch', 'ray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_narrows_the_entries_that_list_it_and_drops_the_others() -> None:
    standard = find_suite("standard")
    tasks = [entry.task for entry in standard.with_options(names=("GunPoint",)).entries]
    assert tasks == ["classification", "signal_retrieval", "clustering"]
    (covid,) = standard.with_options(names=("Covid3Month",)).entries
    assert isinstance(covid, Regression)
    assert covid.names == ("Covid3Month",)
    without = {entry.task: entry for entry in standard.with_options(exclude=("Covid3Month",)).entries}
    assert isinstance(without["regression"], Regression)
    assert without["regression"].exclude == ("Covid3Month",)
    assert without["clustering"] == next(entry for entry in standard.entries if entry.task == "clustering")


def test_a_table_is_chosen_by_its_name() -> None:
    table = {"uri": "/lake/notes", "label_column": "label", "columns": {"text": "note"}}
    entries = [{"task": "classification", "source": "table", "table": table}, {"task": "level"}]
    suite = Suite.parse({"name": "x", "description": "x", "entries": entries}, where="test")
    assert [entry.task for entry in suite.with_options(names=("notes",)).entries] == ["classification"]
    assert [entry.task for entry in suite.with_options(exclude=("notes",)).entries] == ["level"]
