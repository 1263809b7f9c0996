"""Model directories: whole or not at all, and any changed byte that makes vectors is noticed."""

import json

import numpy as np
import pytest

from lakebed.platform.encoder.artifact import (
    CANARIES,
    CARD,
    CONFIG,
    TENSORS,
    files_of,
    read_artifact,
    record_vectors,
    recorded_vectors,
    write_artifact,
)
from lakebed.platform.errors import ArtifactError

TENSOR = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_what_was_written_is_read(tmp_path):
    made = write_artifact(tmp_path / "model", {"name": "m"}, TENSOR, "# card")
    read = read_artifact(tmp_path / "model", expect_digest=made.digest)
    assert read.config["name"] == "m"
    assert np.array_equal(read.tensors()["weight"], TENSOR["weight"])


def test_equal_models_have_equal_digests(tmp_path):
    digests = {write_artifact(tmp_path / card, {"name": "m"}, TENSOR, card).digest for card in ("one", "another")}
    assert len(digests) == 1


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_a_changed_file_is_noticed(tmp_path, name):
    made = write_artifact(tmp_path / "m", {"name": "m"}, TENSOR, "# card")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ArtifactError, match="the files were changed"):
        read_artifact(tmp_path / "m", expect_digest=made.digest)


@pytest.mark.parametrize("name", [CONFIG, CARD, TENSORS])
def test_a_directory_without_one_of_the_files_is_no_model(tmp_path, name):
    write_artifact(tmp_path / "m", {"name": "m"}, TENSOR, "# card")
    (tmp_path / "m" / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} missing"):
        read_artifact(tmp_path / "m")


def test_a_model_is_never_overwritten(tmp_path):
    write_artifact(tmp_path / "m", {"name": "m"}, TENSOR, "# card")
    with pytest.raises(ArtifactError, match="is there already"):
        write_artifact(tmp_path / "m", {"name": "other"}, TENSOR, "# card")


def test_another_format_is_refused(tmp_path):
    write_artifact(tmp_path / "m", {"name": "m"}, TENSOR, "# card")
    (tmp_path / "m" / CONFIG).write_text(json.dumps({"format": "something-else"}))
    with pytest.raises(ArtifactError, match="not a model of format"):
        read_artifact(tmp_path / "m")


def test_tensors_that_are_no_safetensors_are_refused(tmp_path):
    write_artifact(tmp_path / "m", {"name": "m"}, TENSOR, "# card")
    (tmp_path / "m" / TENSORS).write_bytes(b"\x80\x04pickle")
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        read_artifact(tmp_path / "m").tensors()


def test_vectors_kept_beside_a_model_are_read_and_do_not_change_it(tmp_path):
    made = write_artifact(tmp_path / "m", {"name": "m"}, TENSOR, "# card")
    assert recorded_vectors(made.path) == {}
    record_vectors(made.path, {"key": np.arange(3, dtype=np.float32)})
    assert recorded_vectors(made.path)["key"].tolist() == [0, 1, 2]
    assert read_artifact(made.path).digest == made.digest
    assert files_of(made.path) == [CARD, CANARIES, TENSORS, CONFIG]


def test_kept_vectors_that_are_none_are_named(tmp_path):
    (tmp_path / CANARIES).write_text("{}")
    with pytest.raises(ArtifactError, match=r"canaries\.safetensors: not a safetensors file"):
        recorded_vectors(tmp_path)
