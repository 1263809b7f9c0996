"""One loaded packaged model for all tests of this folder: loading it takes seconds."""

import pytest

from lakebed.platform.encoder.load import resolve_model


@pytest.fixture(scope="session")
def encoder():
    """The packaged model on the CPU."""
    return resolve_model("lakebed-embed").load("cpu")
