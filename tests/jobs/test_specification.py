import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lakebed.cli.embed import read_job
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
LEAST: dict[str, Any] = {"source": {"uri": "/a"}, "columns": {"text": "note"}, "sink": {"uri": "/b"}}


def job(**fields: Any) -> EmbedJob:
    return EmbedJob.parse({**LEAST, **fields}, where="job")


def test_the_least_job_has_a_default_for_the_rest() -> None:
    assert job().quarantine_table.uri == "/b_quarantine"
    assert job().model == "lakebed-embed"


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"colums": {}}, "colums: unknown field"),
        ({"columns": {}}, "nothing to embed"),
        ({"columns": {"series": "s", "channels": ["x"]}}, "not both"),
        ({"columns": {"text": "note", "keys": ["lb_key"]}}, "'lb_key' cannot be copied"),
        ({"columns": {"text": "note", "keys": ["id"], "keep": ["id"]}}, "named twice"),
        ({"sink": {"uri": "/a"}}, "three different tables"),
        ({"max_quarantined": "lots"}, "max_quarantined"),
        ({"max_quarantined": "101%"}, "max_quarantined"),
        ({"dimensions": 0}, "dimensions"),
        ({"channel_names": ["x"]}, "no series or channels column"),
        ({"compute": {"actors": 0}}, "greater than or equal to 1"),
        ({"compute": {"actors": "8-2"}}, "8 is above 2"),
        ({"columns": {"channels": ["x", "y"]}, "channel_names": ["x"]}, "1 channel_names for 2"),
        ({"columns": {"text": "{site"}}, "columns.text: .*is no template"),
        ({"columns": {"text": "note", "null_text": ""}}, "null_text is given"),
        ({"columns": {"text": "note", "series_layout": "samples_first"}}, "no series column"),
        ({"columns": {"series": "s", "series_layout": "rows"}}, "columns.series_layout"),
        (
            {"source": {"uri": "/a", "filter": "site == north"}},
            "source.filter: filter 'site == north' cannot be read",
        ),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault) as error:
        job(**fields)
    assert "\n" not in str(error.value)


def test_a_share_may_be_written_in_percent() -> None:
    assert job(max_quarantined="0.5%").max_quarantined == pytest.approx(0.005)


def test_options_override_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("{source: {uri: /a, version: 3}, columns: {text: note}, sink: {uri: /b}, dimensions: 8}")
    merged = read_job(path, {"source": {"uri": "/c", "version": None}, "dimensions": 16, "columns": {"keys": []}})
    assert (merged.source.uri, merged.source.version, merged.dimensions) == ("/c", 3, 16)


def test_a_filter_and_the_lengths_of_windows_may_be_options(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        "{source: {uri: /a}, sink: {uri: /b}, sampling_rate: 10, "
        "windows: {entity: [id], time: t, channels: [x], length: 5}}"
    )
    merged = read_job(path, {"source": {"filter": "x > 1"}, "windows": {"length": "2s", "stride": "10"}})
    assert merged.windows is not None
    assert (merged.source.filter, merged.windows.samples(10)) == ("x > 1", (20, 10))


def test_what_says_nothing_of_rows_leaves_the_key_of_a_job_as_it_was() -> None:
    assert job().rows_identity == {}
    assert job(source={"uri": "/a", "filter": "x > 1"}).key != job().key


def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("- a")
    with pytest.raises(ConfigError, match="expected a mapping"):
        read_job(path, {})


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "examples").glob("embed-*.yaml")), ids=lambda path: path.name
)
def test_every_example_is_a_job(path: Path) -> None:
    assert EmbedJob.from_yaml(path).sink.uri


def test_there_are_examples() -> None:
    assert len(list((REPOSITORY / "examples").glob("embed-*.yaml"))) >= 3


def test_checking_a_job_imports_nothing_heavy() -> None:
    code = (
        "import sys, lakebed.platform.config.embed, lakebed.cli.embed, lakebed.cli.jobs;"
        "print([name for name in ('torch', 'ray', 'mlflow', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
