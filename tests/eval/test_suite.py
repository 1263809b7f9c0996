"""Suites as options narrow them."""

from pathlib import Path

import pytest

from lakebed.eval.catalogue import find_suite
from lakebed.platform.config.suite import Classification, CrossModal
from lakebed.platform.errors import ConfigError


def test_a_folder_goes_to_the_entries_that_read_one() -> None:
    (entry,) = find_suite("classification").with_options(data=Path("sets"), exclude=("PenDigits",)).entries
    assert isinstance(entry, Classification)
    assert (entry.path, entry.exclude) == (Path("sets"), ("PenDigits",))


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
        find_suite("cross_modal").with_options(exclude=("synthetic",))
    with pytest.raises(ConfigError, match="reads no folder"):
        find_suite("smoke").with_options(data=Path("sets"))


def test_dimensions_of_an_option_win_over_the_suites() -> None:
    suite = find_suite("smoke").with_options(dimensions=64)
    assert suite.dimensions == 64
    assert suite.with_options().dimensions == 64
    assert suite.with_options(dimensions=32).dimensions == 32
