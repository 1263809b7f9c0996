"""Embedding a folder of Parquet files with Daft's embed_text, in Daft's own virtual environment.

    DAFT_ENVIRONMENT/bin/python daft_embed_text.py --source FOLDER --sink FOLDER --weights FOLDER --json FILE

Knows nothing of lakebed. Daft does not say when its first row begins: the time of a run over a few rows, after one
such run for the imports, is taken for the start-up of the run that counts.
"""

import argparse
import json
import time
from pathlib import Path

import daft
from daft.functions import embed_text

FEW = 16


def embedded(rows: daft.DataFrame, options: argparse.Namespace, sink: str) -> float:
    """Embed rows into a folder; return seconds."""
    began = time.time()
    vectors = embed_text(
        daft.col("value"), provider="transformers", model=options.weights, batch_size=options.batch_rows
    )
    rows.with_column("embedding", vectors).write_parquet(sink)
    return time.time() - began


def main() -> None:
    """Embed, and say how long it took."""
    parser = argparse.ArgumentParser()
    for name in ("--source", "--sink", "--weights", "--json"):
        parser.add_argument(name, required=True)
    parser.add_argument("--batch-rows", type=int, default=256)
    options = parser.parse_args()
    few = daft.from_pydict({"value": [f"question {number}" for number in range(FEW)]})
    first = embedded(few, options, f"{options.sink}/imports")
    startup = embedded(few, options, f"{options.sink}/few")
    seconds = embedded(daft.read_parquet(f"{options.source}/*.parquet"), options, f"{options.sink}/all")
    if seconds <= startup:
        raise SystemExit(f"too few rows: {seconds:.1f} s, and {startup:.1f} s of them for start-up")
    rows = daft.read_parquet(f"{options.sink}/all/*.parquet").count_rows()
    figures = {"rows": rows, "startup_seconds": first, "seconds": seconds - startup}
    Path(options.json).write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
