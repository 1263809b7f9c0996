"""What documents and examples say of the encoder works: one's own encoder, the notebook, the library's page."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from lakebed import Encoder, TruncationWarning
from lakebed.platform.encoder.protocol import Encoder as EncoderProtocol
from lakebed.platform.errors import InvalidItemError

ROOT = Path(__file__).parents[2]
OWN = "examples.encoder_of_your_own:LetterCounts"
NOTEBOOK = ROOT / "examples" / "encoder.ipynb"


@pytest.fixture
def own(monkeypatch):
    """The example, loaded as a user loads it."""
    monkeypatch.syspath_prepend(str(ROOT))
    return Encoder.load(OWN)


def test_the_example_encoder_works_by_import_path(own):
    assert isinstance(own.encoder, EncoderProtocol)
    vectors = own.encode(["abc", "cab", "xyz", "12"], dimensions=24)
    assert vectors.shape == (4, 24)
    assert np.isclose(vectors[0] @ vectors[1], 1)
    assert vectors[0] @ vectors[2] < 0.1


def test_the_example_encoder_says_what_it_cuts_and_cannot_embed(own):
    with pytest.warns(TruncationWarning, match="5 tokens were cut"):
        own.encode(["a" * 10_005])
    with pytest.raises(InvalidItemError, match="texts only, not series"):
        own.encode(["abc", [1.0, 2.0]])


def test_the_example_encoder_is_as_short_as_is_said():
    source = (ROOT / "examples" / "encoder_of_your_own.py").read_text()
    body = source[source.index("class LetterCounts") :].splitlines()
    assert len([line for line in body if line.strip()]) <= 30


def test_the_notebook_runs_and_is_kept_without_outputs(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's own client
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_every_block_of_the_librarys_page_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/library.md", "exec"), names)
    assert names["counted"].item_truncated.tolist() == [46, 0, 0]
    assert names["counted"].item_tokens.tolist() == [256, 3, 0]
