"""How fast signals become features and vectors: series/s, beside aeon's MiniRocket transform in the same run.

    python -m benchmarks.signal_encoder --json FILE

`ratio_vs_minirocket`: univariate series of length 512, all cores, the encoder's 5,880 features over aeon's 10,000.
`ratio_vs_device_formulation`: the same features by matrix products in torch, on the CPU. The sides run in turn;
figures are medians. Both of the CPU's formulations must agree, or the benchmark fails.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.machine import arguments, report
from lakebed.platform.corpus import varied_series
from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import Item

DEVICE_SHARE = 16
"""The slow formulation gets so many times fewer series."""


def rate(work: Callable[[], object], count: int) -> float:
    """Return items/s of one call."""
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure features, vectors and the peer."""
    from aeon.transformations.collection.convolution_based import MiniRocket

    from lakebed.platform.encoder.multimodal import MultiModalEncoder

    parser = arguments(__doc__)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    encoder = resolve_model("lakebed-embed").load("cpu")
    assert isinstance(encoder, MultiModalEncoder)
    series = varied_series(options.series, convolution.LENGTH, np.random.default_rng(0))
    channels = convolution.as_channels(series)
    items = [Item.of(series=row) for row in series]
    biases, threads = encoder.signal.weights.biases, torch.get_num_threads()
    some = channels[: max(1, len(channels) // DEVICE_SHARE)]
    on_device = convolution.device_features(some, torch.from_numpy(biases)).numpy()
    assert np.abs(on_device - convolution.cpu_features(some, biases, threads)).max() <= 4 / convolution.LENGTH
    peer = MiniRocket(n_jobs=threads, random_state=0).fit(series[:, None])
    sides: dict[str, tuple[Callable[[], object], int]] = {
        "features": (lambda: convolution.cpu_features(channels, biases, threads), len(channels)),
        "vectors": (lambda: encode(encoder, items), len(items)),
        "minirocket": (lambda: peer.transform(series[:, None]), len(series)),
        "device_formulation": (
            lambda: convolution.device_features(some, torch.from_numpy(biases)),
            len(some),
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(options.repeats + 1):
        for name, (work, count) in sides.items():
            measured = rate(work, count)
            if repeat:  # the first round compiles and warms up
                rates[name].append(measured)
    figures = {f"{name}_per_second": statistics.median(values) for name, values in rates.items()}
    for other in ("minirocket", "device_formulation"):
        pairs = zip(rates["features"], rates[other], strict=True)
        figures[f"ratio_vs_{other}"] = statistics.median(ours / theirs for ours, theirs in pairs)
    report(figures, options.json)


if __name__ == "__main__":
    main()
