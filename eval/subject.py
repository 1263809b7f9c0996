"""What is measured: a model, at full length or cut to some dimensions, and what identifies its scores.

lakebed-embed@2        a model reference, at full length
lakebed-embed@2#128    the same model, vectors cut to 128 dimensions
http://host/v1#128     a served model; its digest is what its server says, or a fingerprint of its vectors
"""

from dataclasses import dataclass
from typing import Final

from lakebed.platform.encoder.load import Model, resolve_model
from lakebed.platform.errors import ConfigError, UnreachableError
from lakebed.platform.registry import ModelVersion, Registry

MODEL_DIGEST: Final = "lakebed.model_digest"
DIMENSIONS: Final = "lakebed.dimensions"
FULL_LENGTH: Final = "full"


@dataclass(frozen=True)
class Subject:
    """A resolved model and its truncation; `version` is the registered one with that digest, if there is one."""

    model: Model
    digest: str
    dimensions: int | None
    version: ModelVersion | None

    @property
    def label(self) -> str:
        """How tables name it."""
        name = self.version.reference if self.version else self.model.reference
        return name if self.dimensions is None else f"{name}#{self.dimensions}"

    @property
    def is_identified(self) -> bool:
        """Whether its digest stands for all that decides its vectors: a user's own class has only its word."""
        return self.model.kind != "custom"

    @property
    def tags(self) -> dict[str, str]:
        """The tags by which its runs are found again."""
        return {MODEL_DIGEST: self.digest, DIMENSIONS: str(self.dimensions or FULL_LENGTH)}


def resolve_subject(reference: str, registry: Registry, dimensions: int | None = None) -> Subject:
    """Resolve MODEL or MODEL#DIMENSIONS; raises ModelNotFoundError, ArtifactError or ConfigError."""
    name, mark, cut = reference.partition("#")
    if mark:
        if not cut.isdecimal() or int(cut) < 1 or dimensions is not None:
            raise ConfigError(f"model {reference!r}: write MODEL or MODEL#DIMENSIONS, and dimensions only once")
        dimensions = int(cut)
    model = resolve_model(name, registry)
    digest = model.digest or model.load().info.digest
    return Subject(model, digest, dimensions, _registered_if_known(model, digest, registry))


def _registered_if_known(model: Model, digest: str, registry: Registry) -> ModelVersion | None:
    """The registered version; None while no registry answers, for a model that was not looked up there."""
    try:
        return _registered(model, digest, registry)
    except UnreachableError:
        return None


def registered_model(reference: str) -> Model:
    """Resolve a model that a suite names beside the one it measures, in the environment's registry.

    Raises as `resolve_subject` does.
    """
    from lakebed.platform.config.environment import read_environment

    return resolve_model(reference, Registry(read_environment().resolved_tracking_uri))


def _registered(model: Model, digest: str, registry: Registry) -> ModelVersion | None:
    """The registry's version of this very model, however it was referred to."""
    if model.version is not None:
        return registry.version(model.name, str(model.version))
    if model.name not in registry.names():
        return None
    return next((version for version in registry.versions(model.name) if version.digest == digest), None)
