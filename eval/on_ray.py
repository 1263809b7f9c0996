"""An evaluation's work on Ray: actors encode, each with a share of the cores; tasks run as Ray's tasks.

Vectors go to tasks through the object store. Results are those of one process, bit for bit. Nothing here writes:
what is kept, and what goes to MLflow, is the driver's business.
"""

import math
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Self

import ray
from ray.exceptions import RayError, RayTaskError

from lakebed.eval.steady import steady
from lakebed.eval.tasks.protocol import EncoderTask, TaskResult
from lakebed.eval.workplace import Assignment, takes
from lakebed.platform.encoder.load import Device, Model
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import ChoosyEncoder, Encoder, EncoderInfo, encode
from lakebed.platform.errors import ConfigError, JobFailedError, LakebedError
from lakebed.platform.items import Item

_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
_ENCODER_SHARE: Final = 0.8
"""How much of its cores an encoder reserves: the rest is for tasks, which are short, and wait for no core."""
_TASK_CPUS: Final = 0.2
_LIVES: Final = 2
"""How often an actor whose process died is begun anew, and a call of its repeated."""


@dataclass(frozen=True)
class Team:
    """How many encoders there are, and what each has."""

    workers: int
    threads: int
    gpus: int = 0

    @classmethod
    def of(cls, workers: int | None, device: Device) -> Self:
        """Divide the cores of the Ray that this process is connected to: a GPU or a core each, unless told."""
        resources = _resources()
        cpus = max(1, int(resources.get("CPU", 1)))
        gpus = int(resources.get("GPU", 0)) if device != "cpu" else 0
        count = workers or gpus or cpus
        if gpus and count > gpus:
            raise ConfigError(f"{count} workers: there are {gpus} GPUs", hint="use --device cpu, or fewer workers")
        return cls(count, max(1, cpus // count), 1 if gpus else 0)

    @property
    def cpus(self) -> float:
        """What an encoder reserves; encoders that outnumber the cores share them."""
        available = _resources().get("CPU", 1.0)
        share = min(self.threads * _ENCODER_SHARE, available * _ENCODER_SHARE / self.workers)
        return max(0.01, math.floor(share * 100) / 100)


class OnRay:
    """The Ray that this process is connected to."""

    def __init__(self, model: Model, device: Device, workers: int | None = None) -> None:
        self._model = model.pack()
        self._device = device
        self._team = Team.of(workers, device)
        self._shared: Any = ray.put(self._model)
        self._actors: list[Any] = []
        self._load: list[int] = []
        self._lock = threading.Lock()
        self._info: EncoderInfo
        self._is_choosy: bool

    @property
    def info(self) -> EncoderInfo:
        """Those of the encoder."""
        return self._info

    @property
    def width(self) -> int:
        """Two chunks for each encoder: one in work, one waiting."""
        return 2 * self._team.workers

    def takes(self, items: Sequence[Item]) -> bool:
        """Ask an encoder, if it is choosy."""
        return not self._is_choosy or bool(_got(self._actors[0].takes.remote(list(items))))

    def encode(self, items: Sequence[Item]) -> "Future[VectorArray]":
        """Have the encoder with the least to do embed a chunk."""
        with self._lock:
            number = self._load.index(min(self._load))
            self._load[number] += 1
        future = _future(self._actors[number].encode.remote(list(items)))
        future.add_done_callback(lambda _: self._relieved(number))
        return future

    def run(self, assignment: Assignment) -> "Future[TaskResult]":
        """Run a task beside the encoders; one on the encoder goes to an encoder."""
        if isinstance(assignment.task, EncoderTask):
            with self._lock:
                number = self._load.index(min(self._load))
                self._load[number] += 1
            future = _future(self._actors[number].run.remote(assignment))
            future.add_done_callback(lambda _: self._relieved(number))
            return future
        task: Any = ray.remote(_run_task).options(num_cpus=_TASK_CPUS, max_retries=_LIVES)
        return _future(task.remote(assignment))

    def run_alone(self, assignment: Assignment) -> TaskResult:
        """Let the encoders go, and load one that has all the cores."""
        self._dismiss()
        whole = Team(1, self._team.workers * self._team.threads, self._team.gpus)
        actor = self._hired(whole)
        try:
            result: TaskResult = _got(actor.run_alone.remote(assignment))
        finally:
            ray.kill(actor)
        return result

    def __enter__(self) -> Self:
        self._actors = [self._hired(self._team) for _ in range(self._team.workers)]
        self._load = [0] * len(self._actors)
        self._info, self._is_choosy = _got(self._actors[0].about.remote())
        return self

    def __exit__(self, *_: object) -> None:
        self._dismiss()

    def _hired(self, team: Team) -> Any:
        actor: Any = ray.remote(_EncoderActor)
        return actor.options(
            num_cpus=team.cpus, num_gpus=team.gpus, max_restarts=_LIVES, max_task_retries=_LIVES
        ).remote(self._shared, self._device, team.threads)

    def _dismiss(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def _relieved(self, number: int) -> None:
        with self._lock:
            self._load[number] -= 1


class _EncoderActor:
    """An encoder. Ray keeps of a constructor's error only the words, so a call raises what loading raised."""

    def __init__(self, model: Model, device: Device, threads: int) -> None:
        self._failure: LakebedError | None = None
        try:
            self._encoder = _loaded(model, device, threads)
            self._steady = steady(self._encoder)
        except LakebedError as error:
            self._failure = error

    def about(self) -> tuple[EncoderInfo, bool]:
        self._check()
        return self._encoder.info, isinstance(self._encoder, ChoosyEncoder)

    def takes(self, items: list[Item]) -> bool:
        return takes(self._encoder, items)

    def encode(self, items: list[Item]) -> VectorArray:
        self._check()
        return encode(self._steady, items).vectors

    def run(self, assignment: Assignment) -> TaskResult:
        self._check()
        return assignment.run_with(self._steady)

    def run_alone(self, assignment: Assignment) -> TaskResult:
        self._check()
        return assignment.run_with(self._encoder)

    def _check(self) -> None:
        if self._failure:
            raise self._failure


def _run_task(assignment: Assignment) -> TaskResult:
    return assignment.run()


def _resources() -> dict[str, float]:
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _loaded(model: Model, device: Device, threads: int) -> Encoder:
    """Load an encoder that has some threads: it takes as many lanes as torch has when it is loaded."""
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))  # read as libraries load
    if model.kind == "artifact":
        import torch

        torch.set_num_threads(threads)
    encoder = model.load(device)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return encoder


def _future(reference: Any) -> "Future[Any]":
    """What Ray will have, with its errors as ours."""
    future: Future[Any] = Future()

    def done(given: "Future[Any]") -> None:
        error = given.exception()
        if error is None:
            future.set_result(given.result())
        else:
            future.set_exception(_translated(error))

    reference.future().add_done_callback(done)
    return future


def _got(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        raise _translated(error) from error


def _translated(error: BaseException) -> BaseException:
    """The error that a worker raised, or a line on what became of the worker."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        return cause if isinstance(cause, BaseException) else error
    if isinstance(error, RayError):
        reason = str(error).strip().splitlines()[0]
        return JobFailedError(f"a worker of the evaluation was lost: {reason}", hint="is there enough memory?")
    return error
