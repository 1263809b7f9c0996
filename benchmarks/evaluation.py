"""What measuring costs: suites cold and warm, encoding against the encoder alone, comparing, and a full MLflow.

    python -m benchmarks.evaluation --data DIR --json FILE
    python -m benchmarks.evaluation --quick --only compare_seconds,models_seconds

smoke_cold_seconds,    `lakebed eval --suite smoke` from nothing, and measured anew on the vectors that the first
smoke_warm_seconds     left on disk
ucr_cold_seconds       `lakebed eval --suite classification` on the sets of `--data` from nothing
encode_efficiency      rows/s of encoding in an evaluation over those of the encoder alone, on the same cores; the
                       lesser of texts and signals
compare_seconds        two versions by their scores of so many examples, with 10,000 draws
models_seconds,        `lakebed models` and `lakebed compare` on an MLflow with so many runs and versions
compare_500_seconds

Commands are processes of their own, start-up included.
"""

from collections.abc import Mapping

from benchmarks import evaluation_compare, evaluation_encoding, evaluation_registry, evaluation_suites
from benchmarks.machine import Measure, run_parts

FIGURES: Mapping[str, Measure] = {
    "smoke_cold_seconds": evaluation_suites.measure_smoke,
    "ucr_cold_seconds": evaluation_suites.measure_ucr,
    "encode_efficiency": evaluation_encoding.measure,
    "compare_seconds": evaluation_compare.measure,
    "models_seconds": evaluation_registry.measure,
}
QUICK = {
    "text_rows": 600,
    "signal_rows": 300,
    "repeats": 1,
    "compare_examples": 10_000,
    "runs": 20,
    "versions": 4,
    "limit": 20,
}


def main() -> None:
    """Measure what is asked for, one figure after the other."""
    modules = (evaluation_suites, evaluation_encoding, evaluation_compare, evaluation_registry)
    run_parts(__doc__, FIGURES, QUICK, [*(module.add_options for module in modules)])


if __name__ == "__main__":
    main()
