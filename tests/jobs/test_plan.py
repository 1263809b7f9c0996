import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.jobs.coverage import Coverage, ranges_of
from lakebed.jobs.plan import Resources, plan_job
from lakebed.platform.config.embed import ComputeConfig
from lakebed.platform.errors import CommitError, ConfigError
from lakebed.platform.lake.fragments import Fragment, Snapshot


def snapshot(rows: int, size: int = 1000, fragments: int = 1) -> Snapshot:
    parts = tuple(Fragment(f"{part}.parquet", 0, rows // fragments, size) for part in range(fragments))
    return Snapshot("/t", "delta", "0", pa.schema([]), parts)


def test_one_encoder_per_thread_leaves_room_to_read_and_write() -> None:
    plan = plan_job(snapshot(10_000), ComputeConfig(), Resources(cpus=2))
    assert plan.actors == 2
    assert plan.actors * plan.actor_cpus + 2 * plan.io_cpus <= 2


def test_threads_share_the_cpus_among_fewer_encoders() -> None:
    assert plan_job(snapshot(10_000), ComputeConfig(threads=4), Resources(cpus=16)).actors == 4


def test_gpus_decide_how_many_encoders_there_are() -> None:
    plan = plan_job(snapshot(10_000), ComputeConfig(gpus=0.5), Resources(cpus=16, gpus=2))
    assert (plan.actors, plan.actor_gpus) == (4, 0.5)


def test_gpus_that_are_not_there_are_an_error_unless_the_number_of_encoders_is_given() -> None:
    with pytest.raises(ConfigError, match="the cluster has 0 now"):
        plan_job(snapshot(10), ComputeConfig(gpus=1), Resources(cpus=2))
    assert plan_job(snapshot(10_000), ComputeConfig(gpus=1, actors=3), Resources(cpus=2)).actors == 3


def test_a_small_table_gives_every_encoder_several_batches() -> None:
    plan = plan_job(snapshot(3200), ComputeConfig(), Resources(cpus=2))
    assert 3200 / plan.batch_rows >= 2 * plan.actors


def test_a_large_table_gets_full_batches_and_few_files() -> None:
    plan = plan_job(snapshot(10_000_000, 10**7, 100), ComputeConfig(), Resources(cpus=2))
    assert plan.batch_rows == 2048
    assert plan.part_rows == 65_536


def test_rows_of_many_bytes_get_small_batches() -> None:
    plan = plan_job(snapshot(10_000, size=10_000 * 2**20), ComputeConfig(), Resources(cpus=2))
    assert plan.batch_rows == 16


def test_coverage_holds_when_every_position_came_once() -> None:
    coverage = Coverage(snapshot(10, fragments=2).fragments)
    coverage.add([(1, 0, 5), (0, 3, 5)])
    coverage.add([(0, 0, 3)])
    coverage.check()


@pytest.mark.parametrize(
    ("ranges", "fault"),
    [
        ([(0, 0, 4)], "0.parquet: row 4 was lost"),
        ([(0, 1, 5)], "0.parquet: row 0 was lost"),
        ([(0, 0, 2), (0, 3, 5)], "0.parquet: row 2 was lost"),
        ([(0, 0, 5), (0, 3, 4)], "came twice"),
        ([(0, 0, 6)], "0.parquet: row 5 came twice"),
        ([], "0.parquet: row 0 was lost"),
    ],
)
def test_coverage_names_a_row_that_is_missing_or_came_twice(
    ranges: list[tuple[int, int, int]], fault: str
) -> None:
    coverage = Coverage(snapshot(5).fragments)
    coverage.add(ranges)
    with pytest.raises(CommitError, match=fault):
        coverage.check()


def test_lost_and_doubled_rows_do_not_cancel_out() -> None:
    coverage = Coverage(snapshot(5).fragments)
    coverage.add([(0, 0, 2), (0, 1, 2), (0, 3, 5)])
    with pytest.raises(CommitError):
        coverage.check()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), unique=True))
def test_ranges_hold_exactly_the_places_given(places: list[tuple[int, int]]) -> None:
    found = ranges_of([unit for unit, _ in places], [position for _, position in places])
    assert {(unit, at) for unit, start, stop in found for at in range(start, stop)} == set(places)
    assert sum(stop - start for _, start, stop in found) == len(places)


def test_a_small_table_gets_no_more_encoders_than_batches() -> None:
    assert plan_job(snapshot(2), ComputeConfig(), Resources(8)).actors == 1
    assert plan_job(snapshot(2), ComputeConfig(actors=4), Resources(8)).actors == 1
    assert plan_job(snapshot(100_000), ComputeConfig(), Resources(8)).actors == 8
