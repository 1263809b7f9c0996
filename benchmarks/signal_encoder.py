"""How fast signals become features and vectors, and how that grows; beside aeon's MiniRocket in the same run.

    python -m benchmarks.signal_encoder --json FILE [--device cuda]

`ratio_vs_minirocket`: univariate series of length 512, all cores, the encoder's features over aeon's 10,000;
`ratio_vs_minirocket_no_compiler`: ours in a process that finds no compiler, over the same peer. The sides run in
turn; figures are medians. `growth_length_N`, `growth_channels_N`: time per series against the smallest, over the
ratio of sizes: at most 1 is no faster than linear. `peak_memory_ratio`: peak memory of embedding 8 times as many
signals. `load_to_first_vectors_seconds`: a new process, imports included, to a text's and a signal's vector. On a
GPU: rates, what share of them the machine's own matrix product and copy rates allow, and where time goes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch.nn import functional

from benchmarks.machine import arguments, report
from lakebed.platform.corpus import varied_series
from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.multimodal import MultiModalEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import Item

DEVICE_SHARE = 16
"""The slow formulation gets so many times fewer series."""

SAME = 0.99999
"""Lowest cosine between the two formulations' features of one series; rounding may decide a tie."""

LENGTHS = (64, 512, 4096, 65_536)
CHANNELS = (1, 8, 32, 128)
SAMPLES = 4_000_000
"""Values embedded at each size."""

FIRST_VECTORS = """
from lakebed import Encoder
Encoder.load("lakebed-embed", device="cpu").encode(["a text", [float(i % 7) for i in range(500)]])
"""

RATE = """
import sys, time, numpy as np, torch
from lakebed.platform.corpus import varied_series
from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.load import resolve_model
biases = resolve_model("lakebed-embed").load("cpu").signal.weights.biases
channels = convolution.as_channels(varied_series(int(sys.argv[1]), convolution.LENGTH, np.random.default_rng(0)))
convolution.cpu_features(channels[:8], biases, 2)
for _ in range(3):
    began = time.perf_counter()
    convolution.cpu_features(channels, biases, torch.get_num_threads())
    print(len(channels) / (time.perf_counter() - began))
"""

PEAK = """
import resource, sys, numpy as np
from lakebed import Encoder
from lakebed.platform.items import Item
encoder = Encoder.load("lakebed-embed", device="cpu")
item = Item.of(series=np.random.default_rng(0).standard_normal((4, 600)).cumsum(1))
for _ in range(2):
    encoder.encode([item] * 64)
encoder.encode([item] * int(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def rate(work: Callable[[], object], count: int) -> float:
    """Return items/s of one call."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def in_turn(sides: Mapping[str, tuple[Callable[[], object], int]], repeats: int) -> dict[str, list[float]]:
    """Return items/s of each side, round by round; a first round compiles and warms up."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, (work, count) in sides.items():
            measured = rate(work, count)
            if repeat:
                rates[name].append(measured)
    return rates


def script(code: str, *values: int, path: str | None = None) -> list[float]:
    """Run code in a new process, without any program on its PATH if `path` is empty; return what it prints."""
    environment = {**os.environ, **({} if path is None else {"PATH": path})}
    command = [sys.executable, "-c", code, *map(str, values)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return [float(line) for line in output.split()]


def growth(encoder: MultiModalEncoder) -> dict[str, float]:
    """Return how time per series grows with length and with channels, over linear growth."""
    figures = {}
    shapes = {"length": [(1, length) for length in LENGTHS], "channels": [(count, 512) for count in CHANNELS]}
    for name, sizes in shapes.items():
        seconds = {}
        for channels, length in sizes:
            count = max(4, min(1000, SAMPLES // (channels * length)))
            series = np.random.default_rng(0).standard_normal((channels, length)).cumsum(1)
            items = [Item.of(series=series) for _ in range(count)]
            seconds[channels * length] = statistics.median(
                1 / rate(lambda items=items: encode(encoder, items), count) for _ in range(3)
            )
        smallest = min(seconds)
        for (channels, length), (size, spent) in zip(sizes, seconds.items(), strict=True):
            unit = length if name == "length" else channels
            figures[f"seconds_per_series_{name}_{unit}"] = spent
            if size > smallest:
                figures[f"growth_{name}_{unit}"] = spent / seconds[smallest] / (size / smallest)
    return figures


def processes() -> dict[str, float]:
    """Return what needs processes of its own: cold starts, peak memory."""
    starts = [1 / rate(lambda: script(FIRST_VECTORS), 1) for _ in range(3)]
    config = [1 / rate(lambda: script("import lakebed.platform.config.embed"), 1) for _ in range(3)]
    bare = [1 / rate(lambda: script("pass"), 1) for _ in range(3)]
    few, many = script(PEAK, 1000)[0], script(PEAK, 8000)[0]
    return {
        "load_to_first_vectors_seconds": statistics.median(starts),
        "config_import_seconds": statistics.median(config) - statistics.median(bare),
        "peak_memory_ratio": many / few,
    }


def on_cpu(encoder: MultiModalEncoder, options: argparse.Namespace) -> dict[str, float]:
    """Return rates, ratios, growth and start-up."""
    from aeon.transformations.collection.convolution_based import MiniRocket

    series = varied_series(options.series, convolution.LENGTH, np.random.default_rng(0))
    channels = convolution.as_channels(series)
    items = [Item.of(series=row) for row in series]
    biases, threads = encoder.signal.weights.biases, torch.get_num_threads()
    some = channels[: max(1, len(channels) // DEVICE_SHARE)]
    compiled = torch.from_numpy(convolution.cpu_features(some, biases, threads))
    products = convolution.device_features(some, torch.from_numpy(biases))
    agreement = float(functional.cosine_similarity(products, compiled).min())
    assert agreement >= SAME, f"the two formulations disagree: cosine {agreement}"
    peer = MiniRocket(n_jobs=threads, random_state=0).fit(series[:, None])
    rates = in_turn(
        {
            "features": (lambda: convolution.cpu_features(channels, biases, threads), len(channels)),
            "vectors": (lambda: encode(encoder, items), len(items)),
            "minirocket": (lambda: peer.transform(series[:, None]), len(series)),
            "device_formulation": (
                lambda: convolution.device_features(some, torch.from_numpy(biases)),
                len(some),
            ),
        },
        options.repeats,
    )
    figures = {f"{name}_per_second": statistics.median(values) for name, values in rates.items()}
    figures["min_cosine_of_formulations"] = agreement
    for other in ("minirocket", "device_formulation"):
        pairs = zip(rates["features"], rates[other], strict=True)
        figures[f"ratio_vs_{other}"] = statistics.median(ours / theirs for ours, theirs in pairs)
    without = statistics.median(script(RATE, options.series, path=""))
    figures["ratio_vs_minirocket_no_compiler"] = without / statistics.median(rates["minirocket"])
    return figures | growth(encoder) | processes()


def on_gpu(encoder: MultiModalEncoder, options: argparse.Namespace) -> dict[str, float]:
    """Return rates on the device, beside its own matrix-product and copy rates."""

    def synchronised(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            work()
            torch.cuda.synchronize()

        return run

    series = varied_series(options.series, convolution.LENGTH, np.random.default_rng(0))
    items, channels = [Item.of(series=row) for row in series], convolution.as_channels(series)
    biases = torch.from_numpy(encoder.signal.weights.biases).to(encoder.device)
    square = torch.randn(8192, 8192, device=encoder.device, dtype=torch.bfloat16)
    block = torch.empty(2**30, device=encoder.device, dtype=torch.uint8)
    rates = in_turn(
        {
            "features": (synchronised(lambda: convolution.device_features(channels, biases)), len(channels)),
            "vectors": (synchronised(lambda: encode(encoder, items)), len(items)),
            "prepare": (lambda: encoder.prepare(items), len(items)),
            "matrix_operations": (synchronised(lambda: square @ square), 2 * 8192**3),
            "copied_bytes": (synchronised(block.clone), 2 * block.numel()),
        },
        options.repeats,
    )
    figures = {f"{name}_per_second": statistics.median(values) for name, values in rates.items()}
    responses = convolution.VIEWS * len(convolution.DILATIONS) * len(convolution.KERNELS) * convolution.LENGTH
    operations, moved = 2 * convolution.TAPS * responses, 4 * responses * (2 + biases.shape[3])
    figures["fraction_of_matrix_rate"] = (
        figures["features_per_second"] * operations / figures["matrix_operations_per_second"]
    )
    figures["fraction_of_bandwidth"] = figures["features_per_second"] * moved / figures["copied_bytes_per_second"]
    figures["prepare_over_forward"] = figures["prepare_per_second"] / figures["features_per_second"]
    return figures


def main() -> None:
    """Measure on the device that is asked for."""
    parser = arguments(__doc__)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    encoder = resolve_model("lakebed-embed").load(options.device)
    assert isinstance(encoder, MultiModalEncoder)
    report((on_gpu if options.device == "cuda" else on_cpu)(encoder, options), options.json)


if __name__ == "__main__":
    main()
