import pytest

from lakebed.jobs.coverage import Coverage
from lakebed.jobs.plan import Resources, plan_job
from lakebed.jobs.units import Unit
from lakebed.platform.config.embed import ComputeConfig
from lakebed.platform.errors import CommitError, ConfigError
from lakebed.platform.lake.fragments import Fragment


def units(rows: int, size: int = 1000, fragments: int = 1) -> tuple[Unit, ...]:
    each = rows // fragments
    return tuple(Unit(Fragment(f"{part}.parquet", 0, each, size), ((0, each),)) for part in range(fragments))


def test_one_encoder_per_thread_leaves_room_to_read_and_write() -> None:
    plan = plan_job(units(10_000), ComputeConfig(), Resources(cpus=2))
    assert plan.actors == 2
    assert plan.actors * plan.actor_cpus + 2 * plan.io_cpus <= 2


def test_reading_and_writing_take_a_bounded_number_of_processes() -> None:
    plan = plan_job(units(10_000, fragments=5), ComputeConfig(), Resources(cpus=2))
    assert (plan.reads, plan.writes) == (2, 2)
    plan = plan_job(units(10_000, fragments=5), ComputeConfig(actors=8), Resources(cpus=1))
    assert (plan.reads, plan.writes) == (5, 8)


def test_few_parts_need_no_bound() -> None:
    assert plan_job(units(100), ComputeConfig(), Resources(cpus=2)).writes is None


def test_threads_share_the_cpus_among_fewer_encoders() -> None:
    assert plan_job(units(10_000), ComputeConfig(threads=4), Resources(cpus=16)).actors == 4


def test_gpus_decide_how_many_encoders_there_are() -> None:
    plan = plan_job(units(10_000), ComputeConfig(gpus=0.5), Resources(cpus=16, gpus=2))
    assert (plan.actors, plan.actor_gpus) == (4, 0.5)


def test_gpus_that_are_not_there_are_an_error_unless_the_number_of_encoders_is_given() -> None:
    with pytest.raises(ConfigError, match="the cluster has 0 now"):
        plan_job(units(10), ComputeConfig(gpus=1), Resources(cpus=2))
    asked = ComputeConfig.parse({"gpus": 1, "actors": "3"}, where="x")
    assert plan_job(units(10_000), asked, Resources(cpus=2)).actors == 3


def test_no_more_encoders_start_than_the_memory_holds() -> None:
    plan = plan_job(units(100_000), ComputeConfig(), Resources(cpus=8, memory=3.5 * 2**30))
    assert (plan.actors, plan.actor_memory) == (3, 2**30)
    small = plan_job(units(100_000), ComputeConfig(), Resources(cpus=8, memory=2**29))
    assert (small.actors, small.actor_memory) == (1, 2**29)


def test_a_range_of_encoders_is_for_a_cluster_that_grows() -> None:
    asked = ComputeConfig.parse({"actors": "2-8"}, where="x")
    plan = plan_job(units(100_000), asked, Resources(cpus=2))
    assert (plan.least_actors, plan.actors) == (2, 8)
    assert ComputeConfig.model_validate_json(asked.model_dump_json()) == asked


def test_a_small_table_gives_every_encoder_several_batches() -> None:
    plan = plan_job(units(3200), ComputeConfig(), Resources(cpus=2))
    assert 3200 / plan.batch_rows >= 2 * plan.actors


def test_a_large_table_gets_full_batches_and_few_files() -> None:
    plan = plan_job(units(10_000_000, 10**7, 100), ComputeConfig(), Resources(cpus=2))
    assert plan.batch_rows == 2048
    assert plan.part_rows == 65_536


def test_rows_of_many_bytes_get_small_batches() -> None:
    plan = plan_job(units(10_000, size=10_000 * 2**20), ComputeConfig(), Resources(cpus=2))
    assert plan.batch_rows == 16


def test_coverage_holds_when_every_position_came_once() -> None:
    coverage = Coverage(units(10, fragments=2))
    coverage.add({1: ((0, 5),), 0: ((3, 5),)})
    coverage.check_once()
    coverage.add({0: ((0, 3),)})
    coverage.check_whole()


@pytest.mark.parametrize(
    ("ranges", "fault"),
    [
        ([(0, 4)], "0.parquet: row 4 was lost"),
        ([(1, 5)], "0.parquet: row 0 was lost"),
        ([(0, 2), (3, 5)], "0.parquet: row 2 was lost"),
        ([(0, 5), (3, 4)], "0.parquet: row 3 came twice"),
        ([(0, 6)], "0.parquet: row 5 was not asked for"),
        ([], "0.parquet: row 0 was lost"),
        ([(0, 2), (1, 2), (3, 5)], "0.parquet: row 1 came twice"),
    ],
)
def test_coverage_names_a_row_that_is_missing_or_came_twice(ranges: list[tuple[int, int]], fault: str) -> None:
    coverage = Coverage(units(5))
    for one in ranges:
        coverage.add({0: (one,)})
    with pytest.raises(CommitError, match=fault):
        coverage.check_whole()


def test_a_small_table_gets_no_more_encoders_than_batches() -> None:
    assert plan_job(units(2), ComputeConfig(), Resources(8)).actors == 1
    assert plan_job(units(2), ComputeConfig.parse({"actors": 4}, where="x"), Resources(8)).actors == 1
    assert plan_job(units(100_000), ComputeConfig(), Resources(8)).actors == 8


def test_beside_gpus_what_prepares_has_processes_of_its_own_as_many_as_there_are_cpus_left() -> None:
    plan = plan_job(units(1_000_000), ComputeConfig(gpus=1), Resources(cpus=16, gpus=2))
    assert (plan.actors, plan.least_preparers, plan.preparers) == (2, 1, 17)
    assert plan_job(units(10_000), ComputeConfig(), Resources(cpus=16)).preparers == 0
    alone = ComputeConfig.parse({"gpus": 1, "preparers": 0}, where="x")
    assert plan_job(units(10_000), alone, Resources(cpus=16, gpus=2)).preparers == 0
    asked = ComputeConfig.parse({"preparers": "1-3"}, where="x")
    assert plan_job(units(100_000), asked, Resources(cpus=2)).preparers == 3


def test_few_rows_are_not_worth_many_encoders_unless_they_are_asked_for() -> None:
    assert plan_job(units(500), ComputeConfig(), Resources(cpus=16)).actors == 1
    assert plan_job(units(1500), ComputeConfig(), Resources(cpus=16)).actors == 3
    asked = ComputeConfig.parse({"actors": 4}, where="x")
    assert plan_job(units(500), asked, Resources(cpus=16)).actors == 4
