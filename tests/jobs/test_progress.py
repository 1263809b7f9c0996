import io

import pytest
from rich.console import Console

from lakebed.jobs.progress import Display, watching
from lakebed.jobs.report import EmbedReport


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80)


def written(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def test_a_log_gets_lines_without_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakebed.jobs.progress.SECONDS_BETWEEN_LINES", 0.0)
    log = console(terminal=False)
    with watching(log, 30) as watcher:
        watcher.note("embedding", "30 rows with 2 encoders")
        watcher.advance(10, {"null": 1})
        watcher.advance(10, {})
    lines = written(log).splitlines()
    assert lines[0] == "embedding 30 rows with 2 encoders"
    assert lines[-1].startswith("20 of 30 rows")
    assert lines[-1].endswith("1 quarantined")
    assert "\x1b" not in written(log)


def test_a_log_is_not_flooded() -> None:
    log = console(terminal=False)
    with watching(log, 100) as watcher:
        for _ in range(100):
            watcher.advance(1, {})
    assert written(log).count("\n") <= 1


def test_a_terminal_gets_a_bar_that_fits_and_goes_away() -> None:
    terminal = console(terminal=True)
    with watching(terminal, 30) as watcher:
        watcher.note("embedding", "30 rows with 2 encoders on a cluster with a very long name")
        watcher.advance(20, {"null": 2, "ragged": 1})
        watcher.committed(1, "0", 20)
    assert "20/30" in written(terminal)
    assert "20 committed" in written(terminal)
    assert "3 quarantined" in written(terminal)


def test_notes_before_the_rows_are_counted_are_lines_in_a_log() -> None:
    log = console(terminal=False)
    with Display(log) as display:
        display.note("starting Ray on this machine")
        display.note("comparing 1,234 rows with those of s3://lake/[a]")
        with display.watching(30) as watcher:
            watcher.note("embedding", "30 rows")
    assert written(log).splitlines() == [
        "starting Ray on this machine",
        "comparing 1,234 rows with those of s3://lake/[a]",
        "embedding 30 rows",
    ]


def test_notes_in_a_terminal_make_room_for_the_bar() -> None:
    terminal = console(terminal=True)
    with Display(terminal) as display:
        display.note("starting Ray on this machine")
        display.note("cutting windows")
        with display.watching(30) as watcher:
            watcher.advance(20, {})
    assert all(part in written(terminal) for part in ("starting Ray on this machine", "20/30"))


def test_notes_in_a_terminal_go_away_when_the_job_fails() -> None:
    terminal = console(terminal=True)

    def fail() -> None:
        with Display(terminal) as display:
            display.note("cutting windows")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "cutting windows" in written(terminal)
    assert written(terminal).endswith("\x1b[1A\x1b[2K"), "the status is gone"


def report(**values: object) -> EmbedReport:
    fields = {
        "run": "r", "model": "fake", "digest": "d" * 64, "source": "/a", "source_version": "4", "rows": 100,
        "embedded": 98, "quarantined": {"null": 2}, "tokens": 400, "samples": 0, "startup_seconds": 3.0,
        "seconds": 10.0, "held": 0, "removed": 0, "commits": 1, "planning_seconds": 0.5, "committing_seconds": 0.5,
        "sink": "/b", "sink_version": "7", "quarantine": "/q", "dimensions": 8,
    }  # fmt: skip
    return EmbedReport(**{**fields, **values})  # type: ignore[arg-type]  # a mapping has one type for all


def test_the_summary_says_rows_rates_quarantine_and_version() -> None:
    out = console(terminal=False)
    report().show(out)
    text = written(out)
    for part in ("100  98 embedded, 2 quarantined: 2 null; see /q", "10 rows/s  40 tokens/s", "/b  version 7"):
        assert part in text
    assert "samples/s" not in text


def test_the_figures_are_flat_and_leave_start_up_out_of_the_rates() -> None:
    figures = report().as_json()
    assert figures["rows_per_second"] == 10
    assert figures["startup_seconds"] == 3
    assert figures["quarantined/null"] == 2
    assert all(not isinstance(value, dict | list) for value in figures.values())


def test_a_run_with_nothing_to_do_says_so() -> None:
    out = console(terminal=False)
    report(nothing_new=True).show(out)
    assert "nothing to do: /b version 7 holds version 4 of /a" in " ".join(written(out).split())
