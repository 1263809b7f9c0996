"""What an actor does, without an actor."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lakebed.jobs.encoding import RowEmbedder
from lakebed.jobs.rows import RowMapping
from lakebed.jobs.suspects import Suspects
from lakebed.jobs.worker import EmbedBatches, Embedding, EmbedPrepared, PrepareBatches, _name_of
from lakebed.platform.config.embed import ColumnsConfig
from lakebed.platform.encoder.load import packaged_model, resolve_model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.protocol import lanes_of
from lakebed.platform.errors import JobFailedError

ROWS = pa.table(
    {
        "id": [7, 8, 9, 10],
        "text": ["one", None, "three", "one"],
        "_unit": pa.array([0] * 4, pa.int32()),
        "_position": range(4),
    }
)


@pytest.fixture
def _own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def worker(
    model: str,
    threads: int = 1,
    book: Suspects | None = None,
    kind: Callable[[Embedding, Suspects], Any] = EmbedBatches,
) -> Any:
    resolved = resolve_model(model)
    mapping = RowMapping(ColumnsConfig(text="text", keys=("id",)))
    dimensions = resolved.load("cpu").info.dimensions
    embedding = Embedding(resolved, mapping, dimensions, Budget(), threads, "cpu", cache_bytes=2**20)
    return kind(embedding, book or Suspects())


@pytest.mark.usefixtures("_own_threads")
def test_a_worker_of_several_threads_runs_as_many_lanes_and_one_of_one_thread_none() -> None:
    vectors = []
    for threads in (1, 2, 1):
        embed = worker(str(packaged_model()), threads)
        assert isinstance(embed._embed, RowEmbedder)
        assert lanes_of(embed._embed.encoder) == torch.get_num_threads() == threads
        vectors.append(embed(ROWS).column("embedding").to_pylist())
        assert torch.get_num_threads() == threads
    assert np.allclose(vectors[0][0], vectors[1][0], atol=1e-5)
    assert vectors[1][1] is None


@pytest.mark.usefixtures("_own_threads")
def test_a_row_that_killed_two_processes_is_an_error_and_the_others_have_vectors() -> None:
    book = Suspects()
    for attempt in ("of the batch", "of a row", "of the same row"):
        if book.begin(_name_of(ROWS), attempt, 4).alone:
            book.trying(_name_of(ROWS), attempt, (2, 3))
    out = worker("fake:8", book=book)(ROWS)
    assert out.column("lb_error_code").to_pylist() == [None, "null", "killed_worker", None]
    assert out.column("_position").to_pylist() == [0, 1, 2, 3]
    assert out.column("embedding").null_count == 2


@pytest.mark.usefixtures("_own_threads")
def test_a_model_that_kills_every_process_that_loads_it_ends_the_job() -> None:
    book = Suspects()
    while book.starting():
        """Each dies before it is ready."""
    embed = worker("fake:8", book=book)
    with pytest.raises(JobFailedError, match="model fake:8: the processes that load it die"):
        embed(ROWS)


@pytest.mark.usefixtures("_own_threads")
def test_what_one_worker_prepares_another_embeds_without_the_text_having_travelled() -> None:
    together = worker("fake:8")(ROWS).drop_columns("_began")
    batches = worker("fake:8", kind=PrepareBatches)(ROWS)
    assert len(batches) == 1
    assert b"three" not in batches.column(0)[0].as_py()
    apart = worker("fake:8", kind=EmbedPrepared)(batches).drop_columns("_began")
    assert apart.equals(together)


@pytest.mark.usefixtures("_own_threads")
@pytest.mark.parametrize("stage", [b"prepare", b""])
def test_a_row_that_killed_two_processes_of_either_kind_is_an_error(stage: bytes) -> None:
    book, name = Suspects(), stage + _name_of(ROWS)
    for attempt in ("of the batch", "of a row", "of the same row"):
        if book.begin(name, attempt, 4).alone:
            book.trying(name, attempt, (2, 3))
    batches = worker("fake:8", book=book, kind=PrepareBatches)(ROWS)
    out = worker("fake:8", book=book, kind=EmbedPrepared)(batches)
    assert out.column("lb_error_code").to_pylist() == [None, "null", "killed_worker", None]
    assert out.column("id").to_pylist() == [7, 8, 9, 10]
    assert out.column("embedding").null_count == 2
