"""From a model's name to an encoder: the packaged model, a registry version, a folder, a class of the user's own.

    lakebed-embed              the champion in the registry, or the packaged model when the registry has none
    lakebed-embed@7            version 7 in the registry; @candidate: the version with that alias
    ./models/mine              a model directory; one named NAME@VERSION is that version, as `submit` ships it
    package.module:Class       the user's own encoder class, called without arguments
    http://host/v1?model=NAME  a model behind a URL: see remote.py
    fake, fake:64              the deterministic fake, with that many dimensions

Resolving is cheap and imports no torch; loading is the expensive step and may happen on another machine.
"""

import importlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, Protocol

from lakebed.platform.encoder.artifact import CONFIG, files_of, read_artifact, recorded_vectors
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.encoder.training_record import TrainingRecord, trained_on
from lakebed.platform.errors import ArtifactError, ConfigError, ModelNotFoundError

DEFAULT_MODEL: Final = "lakebed-embed"
CHAMPION: Final = "champion"

Device = Literal["auto", "cpu", "cuda"]


class ModelSource(Protocol):
    """Where named versions come from; `lakebed.platform.registry.Registry` is one."""

    def locate(self, name: str, selector: str | None) -> tuple[int, Path] | None:
        """Version number and verified folder of `name` at an alias or version; None if the name is unknown."""
        ...


@dataclass(frozen=True)
class Model:
    """A model reference, resolved. Picklable; `pack` it before it travels to another machine."""

    reference: str
    name: str
    kind: Literal["artifact", "fake", "custom", "remote"]
    target: str
    version: int | None = None
    digest: str | None = None
    contents: Mapping[str, bytes] | None = field(default=None, repr=False)

    def load(self, device: Device = "auto") -> Encoder:
        """Build the encoder here; raises ArtifactError or ConfigError when it cannot be."""
        if self.kind == "fake":
            return FakeEncoder(int(self.target))
        if self.kind == "custom":
            return _custom(self.target)
        if self.kind == "remote":
            from lakebed.platform.encoder.remote import Endpoint, RemoteEncoder

            return RemoteEncoder(Endpoint.of(self.target))
        from lakebed.platform.encoder.multimodal import MultiModalEncoder

        folder = self._unpacked() if self.contents is not None else Path(self.target)
        return MultiModalEncoder.load(folder, name=self.name, device=device, expect_digest=self.digest)

    def pack(self) -> "Model":
        """Return the same model with its files inside, to be sent to workers."""
        if self.kind != "artifact" or self.contents is not None:
            return self
        folder = Path(self.target)
        return replace(self, contents={name: (folder / name).read_bytes() for name in files_of(folder)})

    def recorded_vectors(self) -> dict[str, VectorArray]:
        """Vectors that a few items had where the model was made, by content key; none where none were kept."""
        return recorded_vectors(Path(self.target)) if self.kind == "artifact" and self.contents is None else {}

    def trained_on(self) -> TrainingRecord | None:
        """Which recorded items the model was trained on, as far as its files say; None where they do not."""
        return trained_on(Path(self.target)) if self.kind == "artifact" and self.contents is None else None

    def _unpacked(self) -> Path:
        """Lay the packed files down once per machine and digest; safe when several processes do it at once."""
        assert self.contents is not None
        folder = Path(tempfile.gettempdir()) / f"lakebed-models-{os.getuid()}" / str(self.digest)
        if not (folder / CONFIG).exists():
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=folder.parent))
            for name, data in self.contents.items():
                (partial / name).write_bytes(data)
            try:
                partial.rename(folder)
            except OSError:  # another process was first; ours is the same by digest
                if not (folder / CONFIG).exists():
                    raise
        return folder


def resolve_model(reference: str, registry: ModelSource | None = None) -> Model:
    """Find what `reference` names; raises ModelNotFoundError, ArtifactError or ConfigError saying what to do."""
    if reference == "fake" or reference.startswith("fake:"):
        return _fake(reference)
    if is_url(reference):
        return _remote(reference)
    if names_a_folder(reference):
        return _versioned(_folder(reference, reference))
    if ":" in reference:
        return Model(reference, reference, "custom", reference)
    name, _, selector = reference.partition("@")
    if not name or (not selector and "@" in reference):
        raise ConfigError(f"model {reference!r}: expected NAME, NAME@VERSION or NAME@ALIAS")
    found = registry.locate(name, selector or None) if registry else None
    if found is not None:
        version, folder = found
        return replace(_folder(reference, str(folder)), name=name, version=version)
    if name == DEFAULT_MODEL and selector in ("", CHAMPION):
        return replace(_folder(reference, str(packaged_model())), name=name)
    raise ModelNotFoundError(
        f"no model named {reference!r}",
        hint="`lakebed models` lists the versions in the registry; a folder is written ./like/this",
    )


def is_url(reference: str) -> bool:
    """Whether a reference is the URL of a server."""
    return reference.startswith(("http://", "https://"))


def names_a_folder(reference: str) -> bool:
    """Whether a reference is a path, which means something on one machine only."""
    if is_url(reference):
        return False
    return "/" in reference or reference.startswith(".") or bool(reference and Path(reference).is_dir())


def can_move(reference: str) -> bool:
    """Whether `reference` may name another version later: a registry's name, alone or at an alias."""
    is_named = ":" not in reference and reference != "fake" and not names_a_folder(reference)
    return is_named and not reference.partition("@")[2].isdecimal()


def packaged_model() -> Path:
    """Folder of the model that ships with this package."""
    return Path(str(files("lakebed"))) / "platform" / "encoder" / "models" / DEFAULT_MODEL


def _fake(reference: str) -> Model:
    _, _, dimensions = reference.partition(":")
    if dimensions and (not dimensions.isdecimal() or int(dimensions) < 1):
        raise ConfigError(f"model {reference!r}: write fake or fake:DIMENSIONS, such as fake:64")
    encoder = FakeEncoder(int(dimensions or 32))
    return Model(reference, "fake", "fake", str(encoder.dimensions), digest=encoder.info.digest)


def _remote(reference: str) -> Model:
    from lakebed.platform.encoder.remote import Endpoint

    url = Endpoint.of(reference).url
    return Model(url, url, "remote", url)


def _folder(reference: str, folder: str) -> Model:
    path = Path(folder)
    if not path.is_dir():
        raise ModelNotFoundError(f"{folder}: no such model directory", hint="make one with `lakebed train`")
    artifact = read_artifact(path)
    name = str(artifact.config.get("name", path.name))
    return Model(reference, name, "artifact", str(path.absolute()), digest=artifact.digest)


def _versioned(model: Model) -> Model:
    name, _, version = Path(model.target).name.partition("@")
    return replace(model, name=name, version=int(version)) if name and version.isdecimal() else model


def _custom(target: str) -> Encoder:
    module, _, attribute = target.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"model {target!r}: cannot be imported: {error}", hint="put its folder on PYTHONPATH, or install it"
        ) from None
    encoder = factory()
    if not isinstance(encoder, Encoder):
        raise ArtifactError(
            f"model {target!r}: not an encoder",
            hint="it needs info, prepare, forward and finish: see lakebed.platform.encoder.protocol.Encoder",
        )
    return encoder
