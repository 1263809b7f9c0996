"""What an evaluation shows while it runs."""

from io import StringIO

import pytest
from rich.console import Console

from lakebed.eval import progress
from lakebed.eval.progress import watching


def shown(terminal: bool) -> str:
    """Watch two sets, one of whose vectors are there already."""
    out = StringIO()
    with watching(Console(file=out, force_terminal=terminal, width=160)) as watcher:
        watcher.planned(2, 300)
        watcher.encoded(100, kept=True)
        watcher.measured("first", "sts", kept=True)
        watcher.encoding("second")
        for _ in range(2):
            watcher.encoded(100, kept=False)
        watcher.measured("second", "sts", kept=False)
    return out.getvalue()


def test_a_log_has_a_line_per_set_and_now_and_then_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(terminal=False).splitlines() == ["[1/2] first: sts, kept from before", "[2/2] second: sts"]
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    lines = shown(terminal=False).splitlines()
    assert "100 rows encoded" in lines[1]
    assert "rows/s, about" in lines[1]
    assert lines[2].endswith("about 0 s to go")


def test_a_terminal_has_a_bar_for_rows_and_one_for_tasks() -> None:
    text = shown(terminal=True)
    assert "encoding second" in text
    assert "sts on second" in text
    assert "200/200" in text
