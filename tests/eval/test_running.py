"""Running a suite: the same scores anywhere, nothing encoded or measured twice, and nothing half kept."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.eval.laned_encoder import Laned

from lakebed.eval.chunks import ChunkedSet
from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.durable import trim_folder
from lakebed.eval.identity import task_key, vectors_key
from lakebed.eval.kept_results import KeptResults
from lakebed.eval.on_ray import OnRay
from lakebed.eval.progress import Silent
from lakebed.eval.run import Evaluation, evaluate, evaluate_at, plan_of
from lakebed.eval.schedule import Outcome, Planned, Schedule, Stores
from lakebed.eval.steady import steady
from lakebed.eval.tasks.protocol import ExampleScores, TaskResult, Vectors
from lakebed.eval.vector_files import VectorFiles
from lakebed.eval.workplace import InProcess
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.encoder.protocol import Encoder, encode
from lakebed.platform.errors import ConfigError, LakebedError
from lakebed.platform.items import Item

SUITE = Suite.parse(
    {
        "name": "tiny",
        "description": "a bundled set and a small pool",
        "entries": [
            {"task": "classification", "source": "bundled", "names": ["BasicMotions"], "dimensions": [4]},
            {"task": "cross_modal", "pool": 20},
        ],
    },
    where="test",
)


@dataclass(frozen=True)
class FirstNumbers:
    """A task whose scores show every bit of the vectors."""

    name: str = "first"
    headlines: Sequence[str] = ("sum",)
    value: float = 0.0
    lasting: bool = True

    @property
    def configuration(self) -> Mapping[str, Any]:
        return {"value": self.value}

    def run(self, data: Dataset, vectors: Vectors) -> TaskResult:
        shown = vectors["all"][:, 0].astype(np.float64)
        keys = data.parts["all"].keys
        scores = ExampleScores("sum", keys, shown, keys, keys)
        return TaskResult({"sum": float(shown.sum()) + self.value}, [scores], {"rows": np.int64(len(keys))})

    def run_with(self, encoder: Encoder, data: Dataset, vectors: Vectors) -> TaskResult:
        again = encode(encoder, data.parts["all"].items).vectors
        return self.run(data, {"all": again})


def texts(count: int, name: str = "texts") -> Dataset:
    """Texts of different lengths, some of them twice."""
    numbers = [number % (count - 5) for number in range(count)]
    items = [Item.of(text=f"{name} {'word ' * (number % 40)}{number}") for number in numbers]
    return Dataset(name, "1", "here", {"all": Part(items, np.array(["x"] * count))})


def outcome(encoder: Encoder, planned: Planned, stores: Stores | None = None) -> Outcome:
    """Measure one set in this process."""
    return Schedule(InProcess(encoder), stores or Stores(), None, Silent()).run([planned])[0]


def scores(evaluation: Evaluation) -> dict[str, float]:
    """All figures but costs."""
    return {key: value for key, value in evaluation.figures().items() if not key.startswith("cost/")}


class Counting(FakeEncoder):
    """Counts the vectors it makes."""

    made = 0

    def forward(self, work: Prepared) -> VectorArray:
        type(self).made += len(work)
        return super().forward(work)


def test_one_and_four_workers_give_what_one_process_gives_bit_for_bit(ray_cluster: str) -> None:
    model = resolve_model("tests.eval.laned_encoder:Laned")
    here = evaluate(Laned(3), SUITE)
    for workers in (1, 4):
        with OnRay(model, "cpu", workers) as place:
            there = evaluate_at(place, SUITE, plan_of(SUITE))
        assert scores(there) == scores(here)
        assert there.examples().equals(here.examples())
        for one, other in zip(there.measured, here.measured, strict=True):
            assert all(np.array_equal(one.vectors[part], other.vectors[part]) for part in one.vectors)


def test_a_task_on_the_encoder_runs_where_one_is_and_alone_if_it_measures_time(ray_cluster: str) -> None:
    data = texts(1500)
    plan = [Planned(data, FirstNumbers()), Planned(data, FirstNumbers("cost"))]
    with OnRay(resolve_model("tests.eval.laned_encoder:Laned"), "cpu", 1) as place:
        beside, alone = Schedule(place, Stores(), None, Silent()).run(plan)
    assert beside.result.metrics == outcome(Laned(1), plan[0]).result.metrics
    assert alone.result.details == {"rows": 1500}


def test_an_error_on_a_worker_is_the_one_that_was_raised_there(ray_cluster: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported"), OnRay(resolve_model("nowhere:Nothing"), "cpu", 1):
        pass


def test_batches_do_not_depend_on_how_many_cores_there_are() -> None:
    items = texts(300).parts["all"].items
    one, many = (encode(steady(Laned(lanes)), items).vectors for lanes in (1, 5))
    assert np.array_equal(one, many)
    assert not np.array_equal(*(encode(Laned(lanes), items).vectors for lanes in (2, 5)))


def test_equal_contents_are_one_item_of_a_chunk_and_every_example_gets_its_vector() -> None:
    data = texts(1500)
    chunked = ChunkedSet.of(data)
    assert [len(chunk) for chunk in chunked.chunks] == [1024, 1495 - 1024]
    vectors = chunked.joined([encode(FakeEncoder(8), chunk.items).vectors for chunk in chunked.chunks])
    assert np.array_equal(vectors["all"], encode(FakeEncoder(8), data.parts["all"].items).vectors)


def test_vectors_on_disk_are_not_made_again_and_are_the_same(tmp_path: Path) -> None:
    stores = Stores("model", VectorFiles(tmp_path))
    planned = Planned(texts(1500), FirstNumbers())
    Counting.made = 0
    first, second = (outcome(Counting(16), planned, stores) for _ in range(2))
    assert Counting.made == 1495 + 2 * 1500  # the task on the encoder makes its own
    assert np.array_equal(first.vectors["all"], second.vectors["all"])


def test_a_torn_or_damaged_file_of_vectors_counts_as_absent(tmp_path: Path) -> None:
    files, vectors = VectorFiles(tmp_path), np.ones((5, 3), np.float32)
    assert files.find("model", "chunk") is None
    files.store("model", "chunk", vectors)
    assert np.array_equal(files.find("model", "chunk"), vectors)  # type: ignore[arg-type]
    [path] = (tmp_path / "model").iterdir()
    whole = path.read_bytes()
    for bad in (whole[:-1], whole[:20], b"", whole[:-4] + b"\0\0\0\0"):
        path.write_bytes(bad)
        assert files.find("model", "chunk") is None


ENDLESS = """
import sys, numpy as np
from pathlib import Path
from lakebed.eval.vector_files import VectorFiles
files, number = VectorFiles(Path(sys.argv[1])), 0
while True:
    files.store("model", f"chunk{number % 5}", np.full((2000, 64), number, np.float32))
    number += 1
"""


def test_two_processes_that_write_the_same_and_are_killed_leave_whole_files(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path)]) for _ in range(2)]
    files, seen = VectorFiles(tmp_path), 0
    while seen < 200:  # while they write
        assert all(writer.poll() is None for writer in writers)
        found = [files.find("model", f"chunk{number}") for number in range(5)]
        seen += sum(vectors is not None for vectors in found)
    for writer in writers:
        writer.kill()
        writer.wait()
    for number in range(5):
        vectors = files.find("model", f"chunk{number}")
        assert vectors is not None
        assert (vectors == vectors[0, 0]).all()
        assert int(vectors[0, 0]) % 5 == number


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be written"):
        VectorFiles(tmp_path / "file").store("model", "chunk", np.ones((1, 1), np.float32))


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    files = VectorFiles(tmp_path)
    for number in range(3):
        files.store("model", f"chunk{number}", np.ones((100, 10), np.float32))
        os.utime(tmp_path / "model" / f"chunk{number}.safetensors", (number, number))
    assert files.find("model", "chunk0") is not None
    assert trim_folder(tmp_path, most=10_000) == 1
    assert [files.find("model", f"chunk{number}") is not None for number in range(3)] == [True, False, True]


def test_an_evaluation_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    stores = Stores(results=KeptResults(tmp_path))
    good = Planned(texts(20, "good"), FirstNumbers(), key="a")
    bad = Planned(texts(20, "bad"), FirstNumbers(value=float("nan")), key="b")
    with pytest.raises(LakebedError, match="data set bad, task first: no finite number for sum"):
        Schedule(InProcess(FakeEncoder(4)), stores, None, Silent()).run([good, bad])
    done = outcome(FakeEncoder(4), good, stores)
    assert done.kept
    assert done.result.metrics == outcome(FakeEncoder(4), good).result.metrics
    assert not outcome(FakeEncoder(4), good, replace(stores, again=True)).kept
    assert not outcome(FakeEncoder(4), replace(bad, task=FirstNumbers()), stores).kept


def test_scores_of_another_day_are_never_taken_from_what_was_kept(tmp_path: Path) -> None:
    stores = Stores(results=KeptResults(tmp_path))
    planned = Planned(texts(20), FirstNumbers(lasting=False), key="a")
    assert not any(outcome(FakeEncoder(4), planned, stores).kept for _ in range(2))


def test_a_result_is_read_as_it_was_kept(tmp_path: Path) -> None:
    results = KeptResults(tmp_path)
    first = ExampleScores("one", ["a", "b"], np.array([0.1, 1 / 3]), ["x", "y"], ["x", "x"])
    second = ExampleScores("two", ["c"], np.array([1.0]), [""], ["z"])
    given = TaskResult({"m": 1 / 3}, [first, second], {"d": 2.0}, {"m_chance": 0.1})
    assert results.find("k") is None
    results.keep("k", given)
    found = results.find("k")
    assert found is not None
    assert (found.metrics, found.details, found.chance) == (given.metrics, given.details, given.chance)
    for one, other in zip(found.examples, given.examples, strict=True):
        assert (one.metric, one.keys, one.expected, one.predicted) == (
            other.metric, other.keys, other.expected, other.predicted
        )  # fmt: skip
        assert np.array_equal(one.scores, other.scores)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert results.find("k") is None


def test_everything_that_decides_a_score_decides_its_key() -> None:
    data, other = texts(20), texts(21)
    task, probe = FirstNumbers(), FirstNumbers(value=1.0)
    keys = {
        task_key("m", None, data, task, ()),
        task_key("n", None, data, task, ()),
        task_key("m", 4, data, task, ()),
        task_key("m", None, other, task, ()),
        task_key("m", None, data, probe, ()),
        task_key("m", None, data, task, (2,)),
    }
    assert len(keys) == 6
    assert len({vectors_key(*parts) for parts in (("m", "cpu", "x"), ("n", "cpu", "x"), ("m", "cuda", "x"))}) == 3
