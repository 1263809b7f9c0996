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

import argparse
from collections.abc import Callable, Mapping

from benchmarks import evaluation_compare, evaluation_encoding, evaluation_registry, evaluation_suites
from benchmarks.machine import arguments, report, some_of
from lakebed.cli.app import quiet_libraries

FIGURES: Mapping[str, Callable[[argparse.Namespace], dict[str, float]]] = {
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
    options = _options()
    quiet_libraries()
    figures: dict[str, float] = {}
    for name in options.only:
        figures |= FIGURES[name](options)
    report(figures, options.json)


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    some_of(FIGURES, parser)
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look; figures mean little")
    parser.add_argument("--model", default="lakebed-embed")
    for figures in (evaluation_suites, evaluation_encoding, evaluation_compare, evaluation_registry):
        figures.add_options(parser)
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**QUICK)
    return parser.parse_args()


if __name__ == "__main__":
    main()
