"""What the benchmark of dry runs makes of an estimate and a run."""

from benchmarks.job_command import Ran
from benchmarks.job_dry_run import Trial

ESTIMATE = {
    "rows": 100,
    "seconds_least": 4.0,
    "seconds_likely": 5.0,
    "seconds_most": 6.0,
    "bytes_out": 300,
    "encoders_most": 2,
}
ALONE = {**ESTIMATE, "seconds_likely": 8.0, "encoders_most": 1}


def test_ratios_are_estimate_over_actual() -> None:
    slower = Trial(ESTIMATE, ALONE, Ran({"rows": 100, "seconds": 10.0, "startup_seconds": 7.0}, 20.0), stored=200)
    assert (slower.rate_ratio, slower.bytes_ratio, slower.is_in_range) == (2.0, 1.5, False)
    assert slower.alone_ratio == 2.5
    as_told = Trial(ESTIMATE, ALONE, Ran({"rows": 100, "seconds": 5.5, "startup_seconds": 7.0}, 20.0), stored=300)
    assert as_told.is_in_range
