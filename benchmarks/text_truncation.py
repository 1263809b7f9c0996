"""Which dimensions of a text vector to keep when it is cut short: as they come, or by principal directions.

    python -m benchmarks.text_truncation --data ../shared/data/text_stsb --json FILE

Spearman correlation on the STS-B test pairs after keeping n of the text tower's dimensions: the first ones; or the
leading principal directions of a text corpus that a training recipe could have, random words of the vocabulary and
generated captions; and, for what is possible, of the test texts themselves.
"""

from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.machine import arguments, report
from lakebed.jobs.alignment import texts_of
from lakebed.platform.encoder.multimodal import fast_dtype
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.text_tower import TextSpec, TextTower, weights_folder
from lakebed.platform.synthesis import captioned_series

LENGTHS = (64, 128, 192, 224, 256, 384)
CORPUS = 6000


def pairs(folder: Path) -> tuple[list[str], list[str], list[float]]:
    """Return the test pairs and their scores; fields 5, 6 and 7 of each line."""
    lines = [line.split("\t") for line in (folder / "sts-test.csv").read_text(encoding="utf-8").splitlines()]
    return [line[5] for line in lines], [line[6] for line in lines], [float(line[4]) for line in lines]


def random_words(count: int) -> list[str]:
    """Return texts of three to fifteen words of the vocabulary."""
    vocabulary = (weights_folder(TextSpec().source) / "vocab.txt").read_text(encoding="utf-8").split("\n")
    words = [word for word in vocabulary if word.isalpha() and word.isascii() and len(word) > 2]
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(words, generator.integers(3, 16))) for _ in range(count)]


def correlation(first: VectorArray, second: VectorArray, scores: list[float]) -> float:
    """Return Spearman's correlation of cosine and score."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(spearmanr((first * second).sum(1) / norms, scores)[0])


def embed(texts: list[str], tower: TextTower) -> VectorArray:
    """Return plain text vectors (n, dimensions)."""
    vectors: VectorArray = texts_of(texts, tower, 1).plain.numpy()
    return vectors


def principal_rotation(vectors: VectorArray) -> VectorArray:
    """Return the orthogonal matrix that puts the directions of most energy first. Not centred."""
    _, directions = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
    return np.asarray(directions[:, ::-1], np.float32)


def main() -> None:
    """Measure every rotation at every length."""
    parser = arguments(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with sts-test.csv")
    options = parser.parse_args()
    device = torch.device("cpu")
    tower = TextTower(TextSpec.of(), device, fast_dtype(device))
    left, right, scores = pairs(options.data)
    first, second = embed(left, tower), embed(right, tower)
    words = embed(random_words(CORPUS), tower)
    captions = embed([pair.caption for pair in captioned_series(CORPUS, seed=0, split="train")], tower)
    rotations = {
        "as_they_come": np.eye(tower.dimensions, dtype=np.float32),
        "random_words": principal_rotation(words),
        "words_and_captions": principal_rotation(np.concatenate([words, captions])),
        "test_texts": principal_rotation(np.concatenate([first, second])),
    }
    figures = {
        f"{name}/{length}/spearman": correlation(
            first @ rotation[:, :length], second @ rotation[:, :length], scores
        )
        for name, rotation in rotations.items()
        for length in LENGTHS
    }
    report(figures, options.json)


if __name__ == "__main__":
    main()
