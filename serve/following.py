"""Served models stay what their references name: a moved alias is followed without losing a request.

Every replica asks the registry by itself every few seconds, loads what is new beside what is served, and puts it
in place when it embeds. A request has one model from beginning to end, so no answer mixes two. What goes wrong is
logged, once, and what was served stays.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from lakebed.platform.config.environment import read_environment
from lakebed.platform.encoder.load import Model, can_move, resolve_model
from lakebed.platform.errors import LakebedError, ModelNotFoundError
from lakebed.platform.registry import Registry
from lakebed.serve.models import ModelLoader, ServedModels

_log = logging.getLogger(__name__)


class Follower:
    """What the names of one replica lead to, and where that is looked up."""

    def __init__(
        self, served: ServedModels, models: Mapping[str, Model], loader: ModelLoader, registry: Registry
    ) -> None:
        self._served = served
        self._models = {name: model for name, model in models.items() if can_move(model.reference)}
        self._loader = loader
        self._registry = registry
        self._failed: type[LakebedError] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing that is served can move."""
        return not self._models

    def look(self) -> None:
        """Look once at every reference; put in place what has moved. Blocks while it loads."""
        try:
            moved = self._moved()
            self._served.put(self._loader.load(moved))
            self._models.update(moved)
            for name, model in moved.items():
                _log.info("%s is now version %s, digest %s", name, model.version, model.digest)
            self._failed = None
        except LakebedError as error:
            if type(error) is not self._failed:
                _log.warning("what is served stays as it is: %s", error)
            self._failed = type(error)

    def _moved(self) -> dict[str, Model]:
        """Names that lead elsewhere than before, with the models they lead to."""
        newest = {reference: self._newest(reference) for reference in {m.reference for m in self._models.values()}}
        found = {name: newest[model.reference] for name, model in self._models.items()}
        return {
            name: model
            for name, model in found.items()
            if model is not None
            and (model.version, model.digest) != (self._models[name].version, self._models[name].digest)
        }

    def _newest(self, reference: str) -> Model | None:
        """What a reference names now; None when the registry does not know the name (any more)."""
        name, _, selector = reference.partition("@")
        try:
            version = self._registry.version(name, selector or None)
        except ModelNotFoundError:
            return None
        served = [m for m in self._models.values() if m.reference == reference]
        if served and (served[0].version, served[0].digest) == (version.version, version.digest):
            return served[0]
        # By its number, so that nothing moves between looking and downloading.
        return replace(resolve_model(version.reference, self._registry), reference=reference)


def follow(served: ServedModels, models: Mapping[str, Model], loader: ModelLoader, seconds: float) -> None:
    """Look every so many seconds, on a thread of its own, as long as the process lives; never for 0."""
    follower = Follower(served, models, loader, Registry(read_environment().resolved_tracking_uri))

    def run() -> None:
        while True:
            time.sleep(seconds)
            try:
                follower.look()
            except Exception:  # noqa: BLE001 - a thread that ends would follow nothing any more
                _log.exception("what is served stays as it is")

    if seconds and not follower.idle:
        threading.Thread(target=run, name="following", daemon=True).start()
