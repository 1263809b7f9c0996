"""The house stays as laid: folders without __init__, layers that point down, light configuration."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("platform", "serve", "jobs", "eval")
ALLOWED = {
    "platform": {"platform"},
    "serve": {"platform", "serve"},
    "jobs": {"platform", "jobs"},
    "eval": {"platform", "jobs", "eval"},
}
"""What each layer may import of lakebed."""


def _imports(path: Path) -> set[str]:
    """Second part of every `lakebed.X` that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [
                f"{node.module}.{alias.name}" if node.module == "lakebed" else str(node.module)
                for alias in node.names
            ]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("lakebed.")}
    return found - {"__version__"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_top_level_folder_is_no_package(folder):
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_import_name_is_a_link_to_the_folder(folder):
    link = ROOT / "src" / "lakebed" / folder
    assert link.is_symlink()
    assert link.resolve() == ROOT / folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_layers_point_down(folder):
    wrong = {
        str(path.relative_to(ROOT)): extra
        for path in (ROOT / folder).rglob("*.py")
        if (extra := _imports(path) - ALLOWED[folder])
    }
    assert not wrong


def test_the_standard_library_platform_wins_at_the_root():
    code = "import platform; print(platform.system())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Linux"


def test_configuration_is_light_and_so_is_the_command_line():
    names = [f"lakebed.platform.config.{path.stem}" for path in (ROOT / "platform" / "config").glob("*.py")]
    code = f"""
import importlib, sys
for name in {names!r} + ["lakebed", "lakebed.cli.app"]:
    importlib.import_module(name)
print([heavy for heavy in ("torch", "ray", "mlflow", "transformers", "pandas") if heavy in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_is_named_for_nothing():
    empty = {"utils", "helpers", "common", "misc", "util", "helper"}
    assert not [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path.stem in empty]
