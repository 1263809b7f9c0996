"""Whether n nodes do n times the work of one: a cluster of n nodes on this machine, an encoder that waits.

A row costs this machine next to nothing and the encoder a fixed time, as on a device of its own; so nodes do not
take each other's cores, and what is lost between them is the job's.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.job_command import Ran, embed
from benchmarks.job_rows import write_texts
from lakebed.platform.cluster import SYSTEM_CONFIG
from lakebed.platform.encoder.fake import FakeEncoder

SECONDS_PER_ROW = 0.002
OBJECT_STORE_BYTES = 128 * 2**20


def waiting_encoder() -> FakeEncoder:
    """Return the encoder that workers load."""
    return FakeEncoder(64, SECONDS_PER_ROW, name="waiting")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the numbers of nodes and the size of the table."""
    parser.add_argument("--scaling-nodes", type=int, nargs="+", default=[2, 4], metavar="NODES")
    parser.add_argument("--scaling-rows", type=int, default=200_000)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Embed one table on one node and on several."""
    with TemporaryDirectory(prefix="lakebed-scaling-") as folder:
        source = Path(folder) / "source"
        write_texts(source, options.scaling_rows, -(-options.scaling_rows // 4))
        runs = {nodes: _on(nodes, source) for nodes in (1, *options.scaling_nodes)}
    one = runs[1].per_second
    rates = {f"scaling_rows_per_second_{nodes}": run.per_second for nodes, run in runs.items()}
    startup = {f"scaling_startup_seconds_{nodes}": run.figures["startup_seconds"] for nodes, run in runs.items()}
    efficiency = {
        f"scaling_efficiency_{nodes}": run.per_second / (nodes * one) for nodes, run in runs.items() if nodes > 1
    }
    return {**efficiency, **rates, **startup, "scaling_rows": options.scaling_rows}


def _on(nodes: int, source: Path) -> Ran:
    sink = source.with_name(f"sink-{nodes}")
    with cluster(nodes) as address:
        run = embed(source, sink, f"{__name__}:{waiting_encoder.__name__}", "--address", address)
    startup = run.figures["startup_seconds"]
    print(f"scaling: {nodes} nodes, {run.per_second:,.0f} rows/s, {startup:,.1f} s of start-up")
    return run


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """Run a Ray of `nodes` nodes of one CPU each on this machine; yields its address."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
    head = {**node, "include_dashboard": False, "_system_config": dict(SYSTEM_CONFIG)}  # as in cluster.yaml
    running = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(nodes - 1):
            running.add_node(**node)
        yield running.address
    finally:
        running.shutdown()
