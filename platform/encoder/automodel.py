"""Any encoder that transformers knows, as token ids to states of the last layer.

The way for architectures that `bert.py` does not read. Loading imports transformers, importing this does not.
"""

from pathlib import Path
from typing import Any

import torch

from lakebed.platform.encoder.prepared import Ragged


class AutoEncoder:
    """transformers' model for a folder, in padded batches. `states` belongs to one thread."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self.model = _load(folder).to(device)
        self.hidden = int(self.model.config.hidden_size)

    def states(self, tokens: Ragged) -> torch.Tensor:
        """States of the last layer, (tokens, hidden) in row order, on the device."""
        output, mask = self._run(tokens, every_layer=False)
        states: torch.Tensor = output.last_hidden_state[mask]
        return states.to(self.dtype)

    def states_at(self, tokens: Ragged, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """States of the last layer, and those of another, counted from 1; each (tokens, hidden)."""
        output, mask = self._run(tokens, every_layer=True)
        last, between = output.last_hidden_state[mask], output.hidden_states[layer][mask]
        return last.to(self.dtype), between.to(self.dtype)

    def _run(self, tokens: Ragged, *, every_layer: bool) -> tuple[Any, torch.Tensor]:
        lengths = torch.from_numpy(tokens.lengths)
        mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
        ids = torch.zeros(mask.shape, dtype=torch.int64)
        ids[mask] = torch.from_numpy(tokens.values)
        mask = mask.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output = self.model(
                input_ids=ids.to(self.device), attention_mask=mask.long(), output_hidden_states=every_layer
            )
        return output, mask


def _load(folder: Path) -> Any:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, attn_implementation="sdpa"
    )
    return model.eval().requires_grad_(False)
