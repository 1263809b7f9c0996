"""Embedding a folder of Parquet files with Ray Data and sentence-transformers, as people write it.

    python -m benchmarks.plain_ray_data --source FOLDER --sink FOLDER --weights FOLDER --json FILE

Knows nothing of lakebed. What is added is a column with the time at which a batch began, to tell where start-up
ends; one logical CPU for reading and writing, for actors of one CPU each would take all, and no row be read; and
blocks of one batch, for Ray Data reads small files into a single block, which one actor would work on alone.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray

Batch = dict[str, Any]


class Embed:
    """One model, loaded once."""

    def __init__(self, weights: str) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(weights, device="cpu")

    def __call__(self, batch: Batch) -> Batch:
        """Add vectors."""
        began = time.time()
        batch["embedding"] = self.model.encode(batch["value"].tolist())
        batch["began"] = np.full(len(batch["value"]), began)
        return batch


def main() -> None:
    """Embed, and say how long it took."""
    parser = argparse.ArgumentParser()
    for name in ("--source", "--sink", "--weights", "--json"):
        parser.add_argument(name, required=True)
    parser.add_argument("--actors", type=int, required=True)
    parser.add_argument("--batch-rows", type=int, default=256)
    options = parser.parse_args()
    started = time.time()
    ray.init(num_cpus=options.actors + 1, include_dashboard=False)
    rows = ray.data.read_parquet(options.source).repartition(target_num_rows_per_block=options.batch_rows)
    rows = rows.map_batches(
        Embed,
        fn_constructor_args=(options.weights,),
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        batch_size=options.batch_rows,
    )
    rows.write_parquet(options.sink)
    ended = time.time()
    result = pq.read_table(options.sink, columns=["began"])
    began = min(result["began"].to_pylist())
    figures = {"rows": len(result), "startup_seconds": began - started, "seconds": ended - began}
    Path(options.json).write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
