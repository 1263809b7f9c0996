"""`lakebed demo`: the whole path on real recordings, each step the command that a user would type."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from lakebed.cli import console
from lakebed.platform.errors import ConfigError, LakebedError

_MARK: Final = ".made-by-lakebed-demo"

FIRST_RECIPE: Final = """\
# A model made in seconds, to be beaten: few thresholds, little data, a short training.
quantiles: [0.5]
corpus: 500
pairs: 3000
outlines: 2000
prose: 4000
phrases: 500
hidden: 128
epochs: 4
"""
"""What `lakebed train` gets for the demo's first version."""

_ASK: Final = """\
client = openai.OpenAI(base_url="{url}/v1", api_key="{key}")
client.embeddings.create(model="lakebed-embed", input="{words}")"""

_QUERIES: Final = ("someone playing badminton", "the power drawn by a microwave oven", "a hand drawing a gun")


def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything is put; made anew each time.")] = Path("demo"),
) -> None:
    """Show the whole path on real sensor recordings: table, models, comparison, embedding job, endpoint, search.

    Takes a few minutes on two cores, needs no network, and leaves everything under one folder to look at.
    """
    try:
        import openai  # noqa: F401  # asked for before minutes of work, not after
    except ImportError:
        raise ConfigError(
            "the demo asks the endpoint with the openai client, which is not installed", hint="pip install openai"
        ) from None
    started = time.monotonic()
    _fresh(folder)
    story = _Story(folder)
    story.make_the_table()
    story.make_and_compare_two_models()
    story.embed_the_table()
    story.serve_and_ask()
    console.out.print(f"\nDone in {time.monotonic() - started:.0f} s.")


def _fresh(folder: Path) -> None:
    """Make an empty folder; one that is not the demo's own is never emptied."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise ConfigError(f"{folder}: exists and was not made by the demo", hint="name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()


class _Story:
    """The steps, and what they share: the folder and the environment of the commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table, self.vectors = folder / "recordings", folder / "vectors"
        self.home = folder.absolute() / "home"
        self.environment = {**os.environ, "LAKEBED_HOME": str(self.home)}
        for name in ("LAKEBED_TRACKING_URI", "MLFLOW_TRACKING_URI"):
            self.environment.pop(name, None)  # the demo never writes to a server that is really used

    def make_the_table(self) -> None:
        _title("1. Real recordings become a Delta table")
        _say("Motion, gestures, home appliances, speech: sensor channels with a note in words.")
        if shutil.which("lakebed") is None:
            _show(f'export PATH="{Path(sys.executable).parent}:$PATH"')
        _show(f"export LAKEBED_HOME={self.home}")
        self.run("sample", self.table)

    def make_and_compare_two_models(self) -> None:
        _title("2. Two model versions, measured and compared in MLflow")
        recipe, model = self.folder / "first-recipe.yaml", self.folder / "first-model"
        recipe.write_text(FIRST_RECIPE, encoding="utf-8")
        _say("A first model, trained here in seconds, becomes version 1 and the champion.")
        self.run("train", model, "--recipe", recipe)
        self.run("register", model, "--name", "lakebed-embed", "--alias", "champion")
        _say("The model that ships with lakebed becomes version 2.")
        self.run("register", "lakebed-embed", "--name", "lakebed-embed")
        for version in (1, 2):
            self.run("eval", "--model", f"lakebed-embed@{version}", "--suite", "smoke")
        self.run("compare", "lakebed-embed@1", "lakebed-embed@2")
        _say("What the demo needs is to find signals by words, so that decides; nothing else may surely be worse.")
        self.run("promote", "lakebed-embed@2", "--figure", "mean/cross_modal/text_to_signal_r1")
        self.run("models")

    def embed_the_table(self) -> None:
        _title("3. A Ray Data job embeds the table with the champion")
        _say("Two recordings are damaged on purpose: they go to the quarantine, with the reason.")
        self.run(
            "embed", "--source", self.table, "--sink", self.vectors, "--model", "lakebed-embed",
            "--text", "note", "--series", "series", "--key", "id", "--keep", "label",
        )  # fmt: skip

    def serve_and_ask(self) -> None:
        from lakebed.eval.sample_table import unseen_recording
        from lakebed.platform.config.serve import ServeConfig
        from lakebed.serve.ports import free_port
        from lakebed.serve.process import running_server

        _title("4. The champion is served, and an openai client asks for recordings in words")
        key = self.run("keys", "create", "--name", "demo", keep=True).strip().splitlines()[-1]
        port = free_port()
        _show(f"lakebed serve --port {port} &")
        config = ServeConfig.parse({"port": port}, where="demo")
        with running_server(config, environment=self.environment) as url:
            search = _Search(self.vectors, url, key)
            _say(escape(_ASK.format(url=url, key=key[:10] + "…", words=_QUERIES[0])))
            for words in _QUERIES:
                search.ask(f'"{words}"', words)
            _say("\nA recording that is not in the table, sent as numbers, finds others of its kind:")
            label, series = unseen_recording()
            search.ask(f"an unseen recording of someone {label}", [{"time_series": series}])
        self.close(port)

    def close(self, port: int) -> None:
        _title("What was made, and how to look at it")
        home = f"LAKEBED_HOME={self.home}"
        request = (
            f"curl -s http://127.0.0.1:{port}/v1/embeddings -H 'Authorization: Bearer KEY' "
            """-H 'Content-Type: application/json' -d '{"model": "lakebed-embed", "input": "a pump"}'"""
        )
        for what, how in (
            ("recordings, vectors, quarantine", f"{self.table}  {self.vectors}  {self.vectors}_quarantine"),
            ("models, runs, plots and scores", f"mlflow ui --backend-store-uri sqlite:///{self.home}/mlflow.db"),
            ("versions", f"{home} lakebed models"),
            ("a new key", f"{home} lakebed keys create --name me"),
            ("the endpoint", f"{home} lakebed serve --port {port}"),
            ("a vector", request),
        ):
            console.out.print(f"{what}:\n    {escape(how)}")

    def run(self, *words: object, keep: bool = False) -> str:
        """Run one lakebed command as shown; its failure ends the demo with its own exit code."""
        arguments = [str(word) for word in words]
        _show(" ".join(["lakebed", *arguments]))
        done = subprocess.run(
            [sys.executable, "-P", "-m", "lakebed", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE if keep else None,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LakebedError(
                f"the demo stopped: `lakebed {arguments[0]}` ended with exit code {done.returncode}"
            )
        return done.stdout or ""


class _Search:
    """Cosine search over an embedded table, by vectors from the endpoint."""

    def __init__(self, vectors: Path, url: str, key: str) -> None:
        import numpy as np
        import openai
        from deltalake import DeltaTable

        table = DeltaTable(str(vectors)).to_pyarrow_table(columns=["id", "label", "embedding"])
        self.ids, self.labels = (table.column(name).to_pylist() for name in ("id", "label"))
        self.matrix = np.stack(table.column("embedding").to_numpy())
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
        self.embed: Callable[[Any], Any] = lambda question: np.array(
            client.embeddings.create(model="lakebed-embed", input=question).data[0].embedding
        )

    def ask(self, title: str, question: Any, count: int = 3) -> None:
        """Print the recordings nearest to a text or a list of one item."""
        scores = self.matrix @ self.embed(question)
        console.out.print(f"\n  {escape(title)}")
        for place in scores.argsort()[::-1][:count]:
            console.out.print(f"    {scores[place]:.3f}  {self.ids[place]:28}  {self.labels[place]}")


def _title(text: str) -> None:
    console.out.print(f"\n[bold]{text}[/]")


def _say(text: str) -> None:
    console.out.print(f"[dim]{text}[/]")


def _show(command: str) -> None:
    console.out.print(f"\n[green]$[/] {escape(command)}")
