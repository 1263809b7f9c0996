"""What docs/endpoint.md tells users of clients to type, typed."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp

DOCUMENT = (Path(__file__).parents[2] / "docs" / "endpoint.md").read_text(encoding="utf-8")
CLIENTS = DOCUMENT.partition("\n## Clients\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", CLIENTS, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "sh"]


@pytest.fixture
def here(
    app_of: Callable[..., FastAPI], listen: Callable[[ASGIApp], str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Point code at a server of this process, which has no model called lakebed-embed."""
    url = listen(app_of())
    monkeypatch.setenv("LAKEBED_API_KEY", "any")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return lambda code: code.replace("http://127.0.0.1:8000", url).replace("lakebed-embed", "fake")


@pytest.mark.parametrize("code", PYTHON, ids=lambda code: re.findall(r"(?:import|from) (\w+)", code)[-1])
def test_a_client_gets_two_vectors(here: Callable[[str], str], code: str) -> None:
    namespace: dict[str, list[list[float]]] = {}
    exec(here(code), namespace)
    assert [len(vector) for vector in namespace["vectors"]] == [64, 64]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("code", SHELL, ids=["curl"])
def test_curl_gets_two_vectors(here: Callable[[str], str], code: str) -> None:
    done = subprocess.run(["bash", "-c", here(code)], capture_output=True, check=True, env=dict(os.environ))
    assert [len(entry["embedding"]) for entry in orjson.loads(done.stdout)["data"]] == [64, 64]


def test_every_client_has_an_example() -> None:
    assert len(PYTHON) == 5
    assert len(SHELL) == 1
