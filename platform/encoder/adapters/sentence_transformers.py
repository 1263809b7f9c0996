"""An encoder as a module of sentence-transformers: `SentenceTransformer(modules=[SentenceTransformersModule()])`.

`encode`, `similarity`, `truncate_dim`, evaluators and `save_pretrained` work as with any model of that library,
and items may be series, too. Needs the extra `lakebed[sentence-transformers]`. Cannot be trained: gradients end
here.
"""

import json
import reprlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import torch
from sentence_transformers.base.modality_types import Modality
from sentence_transformers.base.modules import InputModule

from lakebed.platform.encoder.library import Encoder, TruncationWarning
from lakebed.platform.encoder.load import DEFAULT_MODEL, Device
from lakebed.platform.encoder.prepared import Prepared
from lakebed.platform.encoder.protocol import forward_in_batches
from lakebed.platform.errors import ArtifactError, InvalidItemError
from lakebed.platform.items import Item, item_of

_FOLDER: Final = "lakebed-model"
"""Where in a saved model the files of ours lie."""


class SentenceTransformersModule(InputModule):
    """One module that does it all: `preprocess` is `prepare`, `forward` gives unit vectors."""

    config_file_name = "lakebed.json"

    def __init__(self, model: str | Encoder = DEFAULT_MODEL, *, device: Device = "auto") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.library = Encoder.load(model, device=device) if isinstance(model, str) else model

    @property
    def modalities(self) -> list[Modality]:
        """What sentence-transformers calls them: to it an array is audio, and `message` allows any mixture."""
        return ["text", "audio", "message"]

    @property
    def max_seq_length(self) -> int:
        """The text window in tokens, special tokens included."""
        return self.library.info.max_tokens

    def get_embedding_dimension(self) -> int:
        """Native length of a vector."""
        return self.library.info.dimensions

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Prepare texts, arrays (channels x samples) and mappings of item fields; a prompt goes before a text."""
        work = self.library.encoder.prepare([_item(value, prompt or "") for value in inputs])
        if work.truncated.any():  # the same words each time, so that Python shows them once
            window = self.library.info.max_tokens
            warnings.warn(f"texts beyond the window of {window} tokens were cut", TruncationWarning, stacklevel=2)
        return {"work": work}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`, (n, dimensions) float32."""
        work: Prepared = features["work"]
        features["sentence_embedding"] = torch.from_numpy(forward_in_batches(self.library.encoder, work))
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the reference, and for a model directory its files, so that a saved model needs nothing else."""
        model = self.library.model
        if model is None:
            raise ArtifactError(
                "an encoder that was made in memory cannot be saved",
                hint="make the module of a reference: a model directory, a name, or package.module:Class",
            )
        packed = model.pack()
        for name, data in (packed.contents or {}).items():
            (Path(output_path) / _FOLDER).mkdir(parents=True, exist_ok=True)
            (Path(output_path) / _FOLDER / name).write_bytes(data)
        described = {"model": _FOLDER if packed.contents else model.reference, "digest": self.library.info.digest}
        (Path(output_path) / self.config_file_name).write_text(json.dumps(described, indent=2) + "\n")

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,  # noqa: ARG003  the signature is theirs
        **kwargs: Any,  # noqa: ARG003
    ) -> Self:
        """Read what `save` wrote, here or on the model hub; raises ArtifactError when the vectors would differ."""
        where: dict[str, Any] = {"token": token, "cache_folder": cache_folder, "revision": revision}
        where["local_files_only"] = local_files_only
        config = cls.load_config(model_name_or_path, subfolder, **where)
        reference = config["model"]
        if reference == _FOLDER:
            reference = cls.load_dir_path(model_name_or_path, str(Path(subfolder) / _FOLDER), **where)
        module = cls(str(reference))
        if module.library.info.digest != config["digest"]:
            raise ArtifactError(
                f"{model_name_or_path}: {config['model']} has digest {module.library.info.digest[:12]}, "
                f"but {config['digest'][:12]} was saved"
            )
        return module


def _item(value: Any, prompt: str) -> Item:
    """Build an item; an error shows it, as sentence-transformers has lost its position by sorting."""
    try:
        item = item_of(value)
        if prompt and item.text is not None:
            return Item.of(prompt + item.text, item.series, item.channel_names, item.sampling_rate)
    except InvalidItemError as error:
        raise InvalidItemError(
            f"item {reprlib.repr(value)}: {error.message}", hint=error.hint, **error.context
        ) from None
    return item
