"""Model references: each form finds its encoder, and a wrong one says what to do."""

import numpy as np
import pytest

from lakebed import Encoder
from lakebed.platform.encoder.artifact import write_artifact
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.load import packaged_model, resolve_model
from lakebed.platform.errors import ConfigError, InvalidItemError, ModelNotFoundError


class Shelf:
    """A registry of one name."""

    def __init__(self, folder):
        self.folder = folder

    def locate(self, name, selector):
        return (7, self.folder) if name == "mine" else None


def test_the_packaged_model_is_the_default_without_a_registry():
    model = resolve_model("lakebed-embed")
    assert (model.kind, model.version, model.target) == ("artifact", None, str(packaged_model()))


def test_a_registered_version_is_found(tmp_path):
    made = write_artifact(tmp_path / "m", {"name": "inner"}, {"w": np.ones(1)}, "# card")
    model = resolve_model("mine@champion", Shelf(tmp_path / "m"))
    assert (model.name, model.version, model.digest) == ("mine", 7, made.digest)


def test_a_folder_named_for_a_version_is_that_version(tmp_path):
    folder = tmp_path / "mine@12"
    write_artifact(folder, {"name": "inner"}, {"w": np.ones(1)}, "# card")
    model = resolve_model(str(folder))
    assert (model.name, model.version) == ("mine", 12)


@pytest.mark.parametrize("reference", ["nothing", "lakebed-embed@3", "./not/there"])
def test_what_does_not_exist_is_not_found(reference):
    with pytest.raises(ModelNotFoundError, match=r"lakebed models|lakebed train"):
        resolve_model(reference)


@pytest.mark.parametrize("reference", ["", "@3", "name@", "fake:x", "fake:0"])
def test_a_malformed_reference_is_a_configuration_error(reference):
    with pytest.raises(ConfigError, match="model"):
        resolve_model(reference)


@pytest.mark.parametrize("reference", ["no.such.module:Thing", "lakebed.platform.encoder.fake:Nothing"])
def test_a_class_that_cannot_be_imported_says_so(reference):
    with pytest.raises(ConfigError, match="cannot be imported"):
        resolve_model(reference).load()


def test_a_users_own_class_is_an_encoder():
    encoder = resolve_model("lakebed.platform.encoder.fake:FakeEncoder").load()
    assert encoder.info == FakeEncoder().info


def test_a_packed_model_loads_where_its_folder_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    packed = resolve_model("lakebed-embed").pack()
    encoder = packed.load("cpu")
    assert encoder.info.digest == packed.digest
    (folder,) = tmp_path.glob("lakebed-models-*/*")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in packaged_model().iterdir()
    )


def test_the_library_encodes_what_it_is_given():
    encoder = Encoder.load("fake:16")
    vectors = encoder.encode(["words", np.ones((2, 3)), {"text": "a", "time_series": [[1.0]]}], dimensions=8)
    assert vectors.shape == (3, 8)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)
    with pytest.raises(InvalidItemError, match="text is empty"):
        encoder.encode(["good", ""])
    with pytest.raises(ConfigError, match="between 1 and 16"):
        encoder.encode(["good"], dimensions=17)
