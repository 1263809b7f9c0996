"""Workers on a real Ray that die, of a row and of a signal from outside; and some that give other vectors."""

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.jobs.deadly_encoders import HOLD, POISON
from tests.jobs.plain_readers import WORKER_SINKS, read_plainly, sink_in

from lakebed.jobs.embed import run_embed
from lakebed.jobs.report import EmbedReport
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import JobFailedError
from lakebed.platform.items import Item

pytestmark = pytest.mark.usefixtures("ray_cluster")
ROWS = 300


@pytest.fixture(autouse=True)
def _root_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def embed(
    folder: Path, encoder: str, special: Mapping[int, str], sink: str = "delta", **compute: int
) -> tuple[EmbedReport, list[str]]:
    """Embed texts, some of them special, with an encoder of this folder; returns the texts, too."""
    texts = [special.get(row, f"text number {row}") for row in range(ROWS)]
    write_deltalake(folder / "source", pa.table({"id": range(ROWS), "text": texts}))
    job = {
        "source": {"uri": str(folder / "source")},
        "sink": sink_in(folder, sink),
        "columns": {"text": "text", "keys": ["id"]},
        "model": f"tests.jobs.deadly_encoders:{encoder}",
        "compute": {"actors": 2, **compute},
        "experiment": None,
    }
    return run_embed(EmbedJob.parse(job, where="test")), texts


def rows_of(folder: Path, sink: str = "delta", *, bad: bool = False) -> list[dict[str, Any]]:
    """Rows of the result, or those that were quarantined."""
    table = sink_in(folder, sink)
    rows = read_plainly(f"{table['uri']}_quarantine" if bad else table["uri"], sink, catalog=table.get("catalog"))
    assert rows is not None
    return sorted(rows.to_pylist(), key=lambda row: row["id"])


def assert_embedded(rows: list[dict[str, Any]], texts: list[str], without: set[int]) -> None:
    assert [row["id"] for row in rows] == [row for row in range(ROWS) if row not in without]
    expected = encode(FakeEncoder(16), [Item.of(texts[row["id"]]) for row in rows]).vectors
    assert np.allclose(np.array([row["embedding"] for row in rows]), expected, atol=1e-6)


APART = {"actors": 1, "preparers": 1, "batch_rows": 100}
"""Another process prepares."""


@pytest.mark.parametrize("sink", WORKER_SINKS)
@pytest.mark.parametrize(
    ("poison", "compute"), [({123: POISON[0]}, APART), ({0: POISON[0], 299: POISON[1]}, {})], ids=["one", "two"]
)
def test_rows_that_kill_their_process_are_quarantined_and_no_others(
    tmp_path: Path, poison: dict[int, str], compute: dict[str, int], sink: str
) -> None:
    report, texts = embed(tmp_path, "Deadly", poison, sink, **compute)
    assert_embedded(rows_of(tmp_path, sink), texts, without=set(poison))
    quarantined = rows_of(tmp_path, sink, bad=True)
    assert [(row["id"], row["lb_error_code"]) for row in quarantined] == [
        (row, "killed_worker") for row in sorted(poison)
    ]
    assert report.quarantined == {"killed_worker": len(poison)}


@pytest.mark.parametrize("sink", WORKER_SINKS)
@pytest.mark.parametrize("compute", [{}, APART], ids=["an encoder", "one that prepares"])
def test_a_worker_killed_from_outside_costs_no_row(tmp_path: Path, compute: dict[str, int], sink: str) -> None:
    number, stop = tmp_path / "pid", threading.Event()

    def kill() -> None:
        while not stop.wait(0.05):
            if number.exists() and number.read_text():
                os.kill(int(number.read_text()), signal.SIGKILL)
                return

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        report, texts = embed(tmp_path, "Held", {150: f"{HOLD}{number}"}, sink, **compute)
    finally:
        stop.set()
        killer.join()
    assert number.exists()
    assert report.bad == 0
    assert_embedded(rows_of(tmp_path, sink), texts, without=set())


def test_a_worker_on_which_the_model_gives_other_vectors_ends_the_job(tmp_path: Path) -> None:
    with pytest.raises(JobFailedError, match=r"deadly_encoders:Drifting on node .* a cosine of") as raised:
        embed(tmp_path, "Drifting", {})
    assert raised.value.hint
    assert not DeltaTable.is_deltatable(str(tmp_path / "sink"))
