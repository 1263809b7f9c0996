"""How fast texts become vectors, beside sentence-transformers on the same texts and threads, and how exactly.

    python -m benchmarks.text_encoder --json FILE
    python -m benchmarks.text_encoder --device cuda --json FILE

1,500 texts of log-normal length, random words of the tokenizer's vocabulary, always the same. Ours is the whole
path of a caller, `encode`: tokenize, forward, finish; theirs is `SentenceTransformer.encode(batch_size=32)` in
float32. The sides run in turn; ratios are medians over the rounds of two neighbours in time. `min_cosine` is the
lowest cosine of any text's vector to theirs. `matmul_share` is the arithmetic of the linear layers alone, over the
time of `forward`, as a share of what this machine reaches on square matrices of that precision in the same rounds.
`prepare_headroom` is how many times as fast as `forward` one process prepares: with `--device cuda`, where both
sides are on the GPU, below 1 it starves.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.machine import arguments, report
from lakebed.platform.encoder.bert import Bert
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.multimodal import MultiModalEncoder
from lakebed.platform.encoder.plan import Budget, length_sorted_batches
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.encoder.text_tower import TextSpec, TextTower, weights_folder
from lakebed.platform.items import Item, items_of

MEDIAN_WORDS, SPREAD, MOST_WORDS = 18, 0.8, 250
SQUARE = {"cpu": 1024, "cuda": 8192}
COST = {"cpu": Budget().cost, "cuda": 131_072}

Samples = dict[str, list[float]]


def mixed_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of random words of the vocabulary, of log-normal length."""
    vocabulary = (weights_folder(TextSpec().source) / "vocab.txt").read_text(encoding="utf-8").split("\n")
    words = [word for word in vocabulary if word.isalpha() and word.isascii() and len(word) > 2]
    generator = np.random.default_rng(seed)
    lengths = generator.lognormal(np.log(MEDIAN_WORDS), SPREAD, count).round().clip(1, MOST_WORDS).astype(int)
    return [" ".join(generator.choice(words, length)) for length in lengths]


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def load(device: str, dtype: torch.dtype | None) -> MultiModalEncoder:
    """Load the packaged model; `dtype` forces the precision of its text tower."""
    encoder = resolve_model("lakebed-embed").load("cuda" if device == "cuda" else "cpu")
    assert isinstance(encoder, MultiModalEncoder)
    if dtype is None:
        return encoder
    encoder.text = TextTower(encoder.text.spec, encoder.device, dtype)
    return encoder


def text_part(encoder: MultiModalEncoder, vectors: VectorArray) -> VectorArray:
    """Return the dimensions that hold the text's own vector."""
    chunks = np.split(vectors, np.cumsum(encoder.layout.pattern)[:-1], axis=1)
    return np.concatenate(chunks[0::2], axis=1)


def lowest_cosine(first: VectorArray, second: VectorArray) -> float:
    """Return the lowest cosine of two vectors of the same text."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(1) / norms).min())


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of one product of square matrices, the best of five."""
    size = SQUARE[device.type]
    first, second = (torch.randn((size, size), device=device).to(dtype) for _ in range(2))

    def product() -> None:
        torch.mm(first, second)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return 2.0 * size**3 / min(seconds(product) for _ in range(5))


def by_part(encoder: MultiModalEncoder, items: Sequence[Item], budget: Budget) -> dict[str, float]:
    """Do what `encode` does, and return the seconds of each part."""
    began = time.perf_counter()
    work = encoder.prepare(items)
    prepared = time.perf_counter()
    batches = [work.take(batch) for batch in length_sorted_batches(work.costs, budget)]
    forward = seconds(lambda: [encoder.forward(batch) for batch in batches])
    whole = time.perf_counter() - began
    return {
        "prepare": prepared - began,
        "forward": forward,
        "rest": whole - forward - (prepared - began),
    }


def measure(
    encoders: dict[str, MultiModalEncoder],
    peer: Callable[[], object],
    items: Sequence[Item],
    options: argparse.Namespace,
) -> Samples:
    """Run every side in turn, `options.rounds` times, after one unmeasured time each."""
    budget, samples = Budget(options.cost or COST[options.device], 4096), defaultdict(list)
    for warm in range(options.rounds + 1):
        found = {"peer": seconds(peer)}
        for name, encoder in encoders.items():
            found[name] = seconds(lambda encoder=encoder: encode(encoder, items, budget=budget))  # type: ignore[misc]
            found[f"{name}_matmul"] = matmul_rate(encoder.device, encoder.text.dtype)
            for part, value in by_part(encoder, items, budget).items():
                found[f"{name}_{part}"] = value
        for name, value in found.items():
            if warm:
                samples[name].append(value)
    return samples


def figures_of(
    name: str, encoder: MultiModalEncoder, samples: Samples, texts: int, tokens: int
) -> dict[str, float]:
    """Return the figures of one precision."""
    model = encoder.text.model
    assert isinstance(model, Bert)
    middle = {key: statistics.median(samples[f"{name}_{key}"]) for key in ("prepare", "forward", "rest")}
    shares = [
        tokens * model.operations_per_token / spent / rate
        for spent, rate in zip(samples[f"{name}_forward"], samples[f"{name}_matmul"], strict=True)
    ]
    return {
        f"texts_per_second_{name}": texts / statistics.median(samples[name]),
        f"tokens_per_second_{name}": tokens / statistics.median(samples[name]),
        f"matmul_gflops_{name}": statistics.median(samples[f"{name}_matmul"]) / 1e9,
        f"matmul_share_{name}": statistics.median(shares),
        **{f"{part}_seconds_{name}": value for part, value in middle.items()},
        f"prepare_headroom_{name}": middle["forward"] / middle["prepare"],
    }


def ratio(samples: Samples, name: str) -> float:
    """Return how many times as fast as the peer a side is: the median over rounds."""
    return statistics.median(theirs / ours for theirs, ours in zip(samples["peer"], samples[name], strict=True))


def main() -> None:
    """Measure both precisions and the peer."""
    from sentence_transformers import SentenceTransformer

    parser = arguments(__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="threads of every side; default: torch's own choice")
    parser.add_argument("--cost", type=int, help="largest padded batch, in tokens")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    texts = mixed_texts(options.texts)
    items = items_of(texts)
    fast, exact = load(options.device, None), load(options.device, torch.float32)
    encoders = {str(encoder.text.dtype).removeprefix("torch."): encoder for encoder in (exact, fast)}
    peer = SentenceTransformer(str(weights_folder(fast.text.spec.source)), device=options.device)
    samples = measure(encoders, lambda: peer.encode(texts, batch_size=32), items, options)
    theirs = peer.encode(texts, batch_size=32)
    tokens = int(fast.prepare(items).tokens.sum())
    figures: dict[str, float] = {
        "speedup_vs_sentence_transformers": ratio(samples, str(fast.text.dtype).removeprefix("torch.")),
        "speedup_fp32": ratio(samples, "float32"),
        "min_cosine": lowest_cosine(text_part(fast, encode(fast, items).vectors), theirs),
        "min_cosine_fp32": lowest_cosine(text_part(exact, encode(exact, items).vectors), theirs),
        "texts": len(texts),
        "tokens": tokens,
        "threads": torch.get_num_threads(),
        "sentence_transformers_tokens_per_second": tokens / statistics.median(samples["peer"]),
    }
    for name, encoder in encoders.items():
        figures |= figures_of(name, encoder, samples, len(texts), tokens)
    report(figures, options.json)


if __name__ == "__main__":
    main()
