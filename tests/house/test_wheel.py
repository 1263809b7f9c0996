"""The built wheel, with the sources out of reach: it carries all it needs, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel of this checkout, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        ROOT,
    ]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("lakebed-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def _run(unpacked, code):
    """Run code that finds lakebed in the wheel only: -I leaves out the checkout, -S its editable install."""
    packages = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    lines = ["import sys", f"sys.path[:0] = [{str(unpacked)!r}, {str(packages)!r}]", code]
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", "\n".join(lines)],
        cwd=unpacked,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_the_wheel_embeds_text_and_signals(unpacked):
    code = """
import lakebed, numpy
vectors = lakebed.Encoder.load("lakebed-embed").encode(["a pump", numpy.arange(9.0)])
print(lakebed.__file__, vectors.shape)
"""
    assert _run(unpacked, code) == f"{unpacked}/lakebed/__init__.py (2, 768)"


def test_the_wheel_carries_every_module_and_data_file_once(unpacked):
    def files(folder):
        return {
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    for name in ("platform", "serve", "jobs", "eval"):
        assert files(unpacked / "lakebed" / name) == files(ROOT / name)
    top = {path.name for path in unpacked.iterdir()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"lakebed"}
