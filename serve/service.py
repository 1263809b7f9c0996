"""Answering one request, from its bytes to the answer's bytes. Knows no HTTP framework and no Ray.

Reading, tokenizing and writing happen on worker threads, the forward on the device's own, and the event loop only
hands work on.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import numpy as np

from lakebed.platform.config.serve import Limits
from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo
from lakebed.platform.items import Item
from lakebed.serve.admission import Admission
from lakebed.serve.auth import Authenticator
from lakebed.serve.errors import InvalidRequestError
from lakebed.serve.inputs import read_items
from lakebed.serve.models import ServedModel, ServedModels
from lakebed.serve.protocol import EmbeddingsRequest, read_request
from lakebed.serve.wire import Usage, embeddings_body

SAMPLES_PER_TOKEN: Final = 16
"""Values of a time series that count as one token in usage and limits."""

_BYTES_PER_TOKEN: Final = 4
"""A rough guess for admission, corrected as soon as the request has been read."""

_LONGEST_TOKEN: Final = 32
"""Characters."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Answer:
    """A successful answer: body, and the headers that go with it."""

    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Work:
    """A request that was read and prepared."""

    request: EmbeddingsRequest
    model: ServedModel
    prepared: Prepared
    usage: Usage


class Service:
    """Everything a replica answers with."""

    def __init__(self, models: ServedModels, authenticator: Authenticator, limits: Limits) -> None:
        self.models = models
        self.authenticator = authenticator
        self.limits = limits
        self._admission = Admission(limits.max_queued_tokens)
        self._threads = ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="prepare")
        self._probe: asyncio.Task[None] | None = None

    async def embed(self, body: bytes, *, as_text: bool) -> Answer:
        """Answer one embeddings request; raises RequestError or ModelNotFoundError."""
        estimate = min(1 + len(body) // _BYTES_PER_TOKEN, self.limits.max_request_tokens)
        with self._admission.enter(estimate) as ticket:
            work = await self._off_loop(partial(self._prepare, body, as_text))
            ticket.correct(work.usage.total_tokens)
            vectors = await work.model.scheduler.run(work.prepared)
            return await self._off_loop(partial(_answer, work, vectors))

    @property
    def queued_tokens(self) -> int:
        """Token equivalents of what was let in and is not yet answered."""
        return self._admission.tokens

    async def probe(self) -> None:
        """Make sure that every model embeds; raises what a request would. Callers at one time share one probe."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._check_models())
        await asyncio.shield(self._probe)

    async def _check_models(self) -> None:
        for model in self.models.distinct():
            await model.check()

    async def _off_loop(self, function: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    def _prepare(self, body: bytes, as_text: bool) -> _Work:
        request = read_request(body)
        model = self.models.find(request.model)
        _check_dimensions(model.encoder.info, request.dimensions)
        items = read_items(request.input, max_inputs=self.limits.max_inputs, as_text=as_text)
        _check_size(np.array([_least_tokens(item) for item in items]), self.limits)
        prepared = model.encoder.prepare(items)
        if request.truncate != "end":
            _refuse_truncation(prepared, model.encoder.info)
        each = prepared.tokens - (-prepared.samples // SAMPLES_PER_TOKEN)
        _check_size(each, self.limits)
        usage = Usage(int(prepared.tokens.sum()), int(each.sum()), int(prepared.truncated.sum()))
        return _Work(request, model, prepared, usage)


def _answer(work: _Work, raw: VectorArray) -> Answer:
    request, info = work.request, work.model.encoder.info
    vectors = work.model.encoder.finish(raw, request.dimensions)
    body = embeddings_body(request.model, vectors, work.usage, base64=request.encoding_format == "base64")
    headers = {"x-lakebed-model-version": work.model.version, "x-lakebed-model-digest": info.digest}
    if work.usage.truncated_tokens:
        headers["x-lakebed-truncated-tokens"] = str(work.usage.truncated_tokens)
    return Answer(body, headers)


def _check_dimensions(info: EncoderInfo, dimensions: int | None) -> None:
    if dimensions is not None and dimensions > info.dimensions:
        raise InvalidRequestError(
            f"dimensions: this model has {info.dimensions}, {dimensions:,} were asked for",
            param="dimensions",
            code="invalid_dimensions",
        )


def _refuse_truncation(prepared: Prepared, info: EncoderInfo) -> None:
    too_long = np.flatnonzero(prepared.truncated)
    if len(too_long):
        first = int(too_long[0])
        raise InvalidRequestError(
            f"input {first}: the text is {int(prepared.truncated[first]):,} tokens over the model's window "
            f"of {info.max_tokens:,}",
            hint='shorten it, or send "truncate": "end" to have its end cut off',
            param="input",
            code="context_length_exceeded",
            position=first,
        )


def _least_tokens(item: Item) -> int:
    """What an item counts at the very least, known without tokenizing it: a token is rarely this long."""
    return -(-item.samples // SAMPLES_PER_TOKEN) + len(item.text or "") // _LONGEST_TOKEN


def _check_size(tokens: IntArray, limits: Limits) -> None:
    """Raise InvalidRequestError when an item, or all of them, are over a limit in token equivalents."""
    largest, total = int(tokens.argmax()), int(tokens.sum())
    if tokens[largest] > limits.max_input_tokens:
        raise InvalidRequestError(
            f"input {largest} has {int(tokens[largest]):,} token equivalents or more, at most "
            f"{limits.max_input_tokens:,} are allowed ({SAMPLES_PER_TOKEN} samples count as one)",
            param="input",
            code="input_too_large",
            position=largest,
        )
    if total > limits.max_request_tokens:
        raise InvalidRequestError(
            f"the request has {total:,} token equivalents or more, at most {limits.max_request_tokens:,} "
            "are allowed",
            hint="send fewer inputs at a time",
            param="input",
            code="max_tokens_per_request",
        )
