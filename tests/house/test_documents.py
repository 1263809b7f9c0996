"""Documents stay true: every link leads somewhere, every command and option exists, every example is valid."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from lakebed.cli.app import app
from lakebed.cli.demo import FIRST_RECIPE
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.recipe import Recipe
from lakebed.platform.config.serve import ServeConfig

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _name(path):
    return str(path.relative_to(ROOT))


def _commands(text):
    """Lines of shell blocks that run lakebed."""
    for language, block in _FENCE.findall(text):
        if language in ("", "sh", "bash", "console"):
            for line in block.splitlines():
                line = line.removeprefix("$ ").strip()
                if line.startswith("lakebed ") and "|" not in line:
                    yield line


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_relative_link_leads_somewhere(document):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_command_and_option_exists(document):
    for line in _commands(document.read_text(encoding="utf-8")):
        words = shlex.split(line, comments=True)[1:]
        command = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or command.invoke_without_command, line
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert used <= known | {"--help"}, line


def test_the_readme_has_commands_to_check():
    assert len(list(_commands((ROOT / "README.md").read_text(encoding="utf-8")))) >= 8


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "docs" / "jobs.md"], ids=_name)
def test_a_job_in_a_document_is_valid(document):
    jobs = [
        block for language, block in _FENCE.findall(document.read_text(encoding="utf-8")) if language == "yaml"
    ]
    assert jobs
    for job in jobs:
        EmbedJob.parse(yaml.safe_load(job), where=_name(document))


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=_name)
def test_an_example_file_is_valid(path):
    (ServeConfig if path.stem.startswith("serve") else EmbedJob).from_yaml(path)


def test_the_recipe_of_the_demonstration_is_valid():
    Recipe.parse(yaml.safe_load(FIRST_RECIPE), where="recipe.yaml")
