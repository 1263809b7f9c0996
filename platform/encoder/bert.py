"""BERT (Devlin et al. 2018, arXiv 1810.04805) read from safetensors: token ids to states of the last layer.

The tokens of all rows lie one after another, so that nothing but attention ever sees padding. Reads the two files
of a Hugging Face folder by itself; knows nothing of texts, pooling, or other architectures.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from lakebed.platform.encoder.attention import Attention, attend, attention_over
from lakebed.platform.encoder.linear import (
    Activation,
    Linear,
    can_fuse,
    linear,
    linear_activated,
    linear_added,
    make_linear,
)
from lakebed.platform.encoder.prepared import IntArray, Ragged
from lakebed.platform.encoder.scripted import scripted
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


class LayerNorm(NamedTuple):
    """Layer normalisation over the last axis."""

    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float


class Layer(NamedTuple):
    """One layer: attention and a perceptron, each added to what came in and normalised."""

    project: Linear
    mix: Linear
    mix_norm: LayerNorm
    widen: Linear
    narrow: Linear
    narrow_norm: LayerNorm
    activation: str


def run_layers(
    states: torch.Tensor, layers: list[Layer], kept: int, attention: Attention
) -> tuple[torch.Tensor, torch.Tensor]:
    """States (tokens, hidden) through all layers: those of the last, and of layer `kept`, from 1."""
    between = states
    for number, layer in enumerate(layers):
        mixed = linear_added(layer.mix, attend(attention, linear(layer.project, states)), states)
        states = normalised(layer.mix_norm, mixed)
        wide = linear_activated(layer.widen, states, layer.activation)
        states = normalised(layer.narrow_norm, linear_added(layer.narrow, wide, states))
        if number + 1 == kept:
            between = states
    return states, between


def normalised(norm: LayerNorm, rows: torch.Tensor) -> torch.Tensor:
    """Normalise rows; computed in float32 whatever their precision."""
    return functional.layer_norm(rows, rows.shape[-1:], norm.weight, norm.bias, norm.epsilon)


class Bert:
    """The whole encoder. `states` belongs to one thread."""

    def __init__(self, tensors: Tensors, shape: BertShape, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype, self.heads = device, dtype, shape.heads
        # Sums of embeddings are small beside the layers' work and set the precision of all that follows.
        exact = {key: tensor.to(device) for key, tensor in tensors.items() if key.startswith("embeddings.")}
        self.words = exact["embeddings.word_embeddings.weight"]
        kinds = exact["embeddings.token_type_embeddings.weight"]
        self.positions = exact["embeddings.position_embeddings.weight"] + kinds[0]
        self.norm = _norm(exact, "embeddings.LayerNorm", shape)
        names = [f"encoder.layer.{layer}" for layer in range(shape.layers)]
        self.layers = [_layer(tensors, name, shape, device, dtype) for name in names]
        self.hidden = int(self.words.shape[1])
        self.window = len(self.positions)
        self.operations_per_token = sum(_operations(tensors, name) for name in names)
        # On a GPU Python is ahead of the device anyway.
        self._run_layers = scripted(run_layers) if can_fuse(device, dtype) else run_layers

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
        states = normalised(self.norm, embedded).to(self.dtype)
        attention = attention_over(tokens.lengths, self.heads, self.device, self.dtype)
        return self._run_layers(states, self.layers, layer, attention)

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


def _layer(tensors: Tensors, name: str, shape: BertShape, device: torch.device, dtype: torch.dtype) -> Layer:
    fast = {key: tensor.to(device, dtype) for key, tensor in tensors.items() if key.startswith(f"{name}.")}

    def linear_named(part: str) -> Linear:
        return make_linear(tensors[f"{name}.{part}.weight"], tensors[f"{name}.{part}.bias"], device, dtype)

    return Layer(
        project=make_linear(*_projection(tensors, f"{name}.attention.self", shape.heads), device, dtype),
        mix=linear_named("attention.output.dense"),
        mix_norm=_norm(fast, f"{name}.attention.output.LayerNorm", shape),
        widen=linear_named("intermediate.dense"),
        narrow=linear_named("output.dense"),
        narrow_norm=_norm(fast, f"{name}.output.LayerNorm", shape),
        activation=shape.activation,
    )


def _norm(tensors: Tensors, name: str, shape: BertShape) -> LayerNorm:
    return LayerNorm(tensors[f"{name}.weight"], tensors[f"{name}.bias"], shape.epsilon)


def _operations(tensors: Tensors, layer: str) -> int:
    """Multiplications and additions of a layer's products for one token."""
    return sum(
        2 * tensor.numel() for name, tensor in tensors.items() if name.startswith(f"{layer}.") and tensor.ndim == 2
    )


def _projection(tensors: Tensors, name: str, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, keys and values as one layer; the scale of the scores is put into the queries."""
    scale = (len(tensors[f"{name}.query.weight"]) // heads) ** -0.5
    scales = {"query": scale, "key": 1.0, "value": 1.0}
    weights = [tensors[f"{name}.{part}.weight"] * scale for part, scale in scales.items()]
    biases = [tensors[f"{name}.{part}.bias"] * scale for part, scale in scales.items()]
    return torch.cat(weights), torch.cat(biases)
