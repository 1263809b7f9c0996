"""What an embedding job costs: against the encoder alone, against peers, in memory, on more nodes, over and over.

    python -m benchmarks.embed_job --json FILE
    python -m benchmarks.embed_job --quick --only memory_growth,scaling_efficiency

- `efficiency_text`, `efficiency_signals`: rows/s over those of the encoder alone, on the same cores.
- `memory_growth`: peak memory of all processes with many rows over that with few, fake encoder.
- `overhead_share`: share of a large run that planning and commits take, fake encoder. With it come `noop_seconds`,
  what a user waits for a second run that finds nothing new, and `rewritten_seconds`, the same after the source's
  files were rewritten with the same rows.
- `dry_run_rate_ratio`: rows/s that a dry run tells over those of the job; with it comes `dry_run_bytes_ratio`, the
  same of the table's bytes. 1 is right.
- `scaling_efficiency`: rows/s on n nodes over n times rows/s on one, with an encoder of a fixed time per row.
- `vs_plain_ray_data`: rows/s over a plain Ray Data script with the same weights.
- `vs_daft`: the same over Daft's `embed_text`; left out where Daft cannot be installed.

Start-up is reported apart everywhere.
"""

import argparse
from collections.abc import Mapping

from benchmarks import job_dry_run, job_efficiency, job_memory, job_overhead, job_peers, job_scaling
from benchmarks.machine import Measure, run_parts

FIGURES: Mapping[str, Measure] = {
    "efficiency_text": job_efficiency.measure_text,
    "efficiency_signals": job_efficiency.measure_signals,
    "memory_growth": job_memory.measure,
    "overhead_share": job_overhead.measure,
    "dry_run_rate_ratio": job_dry_run.measure,
    "scaling_efficiency": job_scaling.measure,
    "vs_plain_ray_data": job_peers.measure_ray_data,
    "vs_daft": job_peers.measure_daft,
}
QUICK = {
    "text_rows": 1_000,
    "signal_rows": 400,
    "repeats": 1,
    "memory_rows": [20_000, 200_000],
    "overhead_rows": 100_000,
    "dry_run_rows": 4_000,
    "scaling_rows": 10_000,
    "peer_rows": 1_000,
}


def main() -> None:
    """Measure what is asked for, one figure after the other."""
    modules = (job_efficiency, job_memory, job_overhead, job_dry_run, job_scaling, job_peers)
    run_parts(__doc__, FIGURES, QUICK, [_add_repeats, *(module.add_options for module in modules)])


def _add_repeats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side that a median is of")


if __name__ == "__main__":
    main()
