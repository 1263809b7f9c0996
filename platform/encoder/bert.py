"""BERT (Devlin et al. 2018, arXiv 1810.04805) read from safetensors: token ids to states of the last layer.

The tokens of all rows lie one after another, so that nothing but attention ever sees padding. Reads the two files
of a Hugging Face folder by itself; knows nothing of texts, pooling, or other architectures.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from lakebed.platform.encoder.attention import Attention
from lakebed.platform.encoder.linear import Activation, Linear
from lakebed.platform.encoder.prepared import IntArray, Ragged
from lakebed.platform.errors import ArtifactError

_ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class BertShape:
    """What config.json says that the weights do not."""

    layers: int
    heads: int
    activation: Activation
    epsilon: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "BertShape | None":
        """Read a configuration; None when it describes another architecture, or a BERT of another kind."""
        plain = (
            config.get("model_type") == "bert"
            and not config.get("is_decoder")
            and config.get("position_embedding_type", "absolute") == "absolute"
        )
        activation = _ACTIVATIONS.get(str(config.get("hidden_act", "gelu")))
        if not plain or activation is None:
            return None
        return cls(
            layers=int(config.get("num_hidden_layers", 12)),
            heads=int(config.get("num_attention_heads", 12)),
            activation=activation,
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
        )


class LayerNorm:
    """Layer normalisation over the last axis."""

    def __init__(self, tensors: Tensors, name: str, epsilon: float) -> None:
        self.weight, self.bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        self.epsilon = epsilon

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Normalise rows; computed in float32 whatever their precision."""
        return functional.layer_norm(rows, rows.shape[-1:], self.weight, self.bias, self.epsilon)


class BertLayer:
    """One layer: attention and a perceptron, each added to what came in and normalised."""

    def __init__(
        self, tensors: Tensors, name: str, shape: BertShape, device: torch.device, dtype: torch.dtype
    ) -> None:
        fast = {key: tensor.to(device, dtype) for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        self.activation = shape.activation
        self.project = Linear(*_projection(tensors, f"{name}.attention.self", shape.heads), device, dtype)
        self.mix = _linear(tensors, f"{name}.attention.output.dense", device, dtype)
        self.mix_norm = LayerNorm(fast, f"{name}.attention.output.LayerNorm", shape.epsilon)
        self.widen = _linear(tensors, f"{name}.intermediate.dense", device, dtype)
        self.narrow = _linear(tensors, f"{name}.output.dense", device, dtype)
        self.narrow_norm = LayerNorm(fast, f"{name}.output.LayerNorm", shape.epsilon)

    @property
    def operations(self) -> int:
        """Multiplications and additions of the linear layers for one token."""
        return sum(linear.operations for linear in (self.project, self.mix, self.widen, self.narrow))

    def __call__(self, states: torch.Tensor, attention: Attention) -> torch.Tensor:
        """States (tokens, hidden) to states of the next layer."""
        states = self.mix_norm(self.mix.added(attention(self.project(states)), states))
        return self.narrow_norm(self.narrow.added(self.widen.activated(states, self.activation), states))


class Bert:
    """The whole encoder. `states` belongs to one thread."""

    def __init__(self, tensors: Tensors, shape: BertShape, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype, self.heads = device, dtype, shape.heads
        # Sums of embeddings are small beside the layers' work and set the precision of all that follows.
        exact = {key: tensor.to(device) for key, tensor in tensors.items() if key.startswith("embeddings.")}
        self.words = exact["embeddings.word_embeddings.weight"]
        kinds = exact["embeddings.token_type_embeddings.weight"]
        self.positions = exact["embeddings.position_embeddings.weight"] + kinds[0]
        self.norm = LayerNorm(exact, "embeddings.LayerNorm", shape.epsilon)
        names = [f"encoder.layer.{layer}" for layer in range(shape.layers)]
        self.layers = [BertLayer(tensors, name, shape, device, dtype) for name in names]
        self.hidden = int(self.words.shape[1])
        self.window = len(self.positions)
        self.operations_per_token = sum(layer.operations for layer in self.layers)

    @classmethod
    def load(cls, folder: Path, shape: BertShape, device: torch.device, dtype: torch.dtype) -> Self:
        """Read model.safetensors; raises ArtifactError when a tensor is missing."""
        try:
            return cls(_plain_names(load_file(folder / "model.safetensors")), shape, device, dtype)
        except KeyError as error:
            raise ArtifactError(
                f"{folder / 'model.safetensors'}: tensor {error} is missing",
                hint="config.json says this is a BERT: both files must be of the same model",
            ) from None

    def states(self, tokens: Ragged) -> torch.Tensor:
        """States of the last layer, (tokens, hidden) in row order, on the device."""
        return self.states_at(tokens, len(self.layers))[0]

    def states_at(self, tokens: Ragged, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """States of the last layer, and those of another, counted from 1; each (tokens, hidden)."""
        self._check(tokens)
        ids, places = self._sent(tokens.values), self._sent(_positions(tokens))
        embedded = self.words.index_select(0, ids) + self.positions.index_select(0, places)
        states = self.norm(embedded).to(self.dtype)
        attention = Attention.of(tokens.lengths, self.heads, self.device, self.dtype)
        between = states
        for number, one in enumerate(self.layers, 1):
            states = one(states, attention)
            between = states if number == layer else between
        return states, between

    def _check(self, tokens: Ragged) -> None:
        """On a GPU an index out of range ends the process, so none gets there."""
        if tokens.lengths.max() > self.window:
            raise ArtifactError(f"a row has {tokens.lengths.max()} tokens, these weights take {self.window}")
        if tokens.values.max() >= len(self.words):
            raise ArtifactError(
                f"token id {tokens.values.max()}, but these weights know {len(self.words)} tokens",
                hint="tokenizer.json and model.safetensors must be of the same model",
            )

    def _sent(self, values: IntArray) -> torch.Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def read_config(folder: Path) -> Mapping[str, Any]:
    """The contents of config.json; raises ArtifactError when there is none."""
    path = folder / "config.json"
    if not path.is_file():
        raise ArtifactError(f"{folder}: no config.json", hint="text weights are a Hugging Face model folder")
    values: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _positions(tokens: Ragged) -> IntArray:
    return np.arange(len(tokens.values)) - np.repeat(tokens.offsets[:-1], tokens.lengths)


def _plain_names(tensors: Tensors) -> dict[str, torch.Tensor]:
    """Name tensors as BERT's encoder alone has them, in float32.

    Models with a head have a prefix; the oldest weights call a layer norm's weight and bias gamma and beta.
    """
    return {
        name.removeprefix("bert.")
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): tensor.float()
        for name, tensor in tensors.items()
    }


def _linear(tensors: Tensors, name: str, device: torch.device, dtype: torch.dtype) -> Linear:
    return Linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"], device, dtype)


def _projection(tensors: Tensors, name: str, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, keys and values as one layer; the scale of the scores is put into the queries."""
    scale = (len(tensors[f"{name}.query.weight"]) // heads) ** -0.5
    scales = {"query": scale, "key": 1.0, "value": 1.0}
    weights = [tensors[f"{name}.{part}.weight"] * scale for part, scale in scales.items()]
    biases = [tensors[f"{name}.{part}.bias"] * scale for part, scale in scales.items()]
    return torch.cat(weights), torch.cat(biases)
