"""Answering one request, from its bytes to the answer's bytes. Knows no HTTP framework and no Ray.

Reading, tokenizing and writing happen on worker threads, the forward on the device's own, and the event loop only
hands work on.
"""

import asyncio
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np

from lakebed.platform.config.serve import KeyLimits, Limits
from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo
from lakebed.platform.items import Item
from lakebed.serve.admission import Admission
from lakebed.serve.auth import Authenticator, permitted_models
from lakebed.serve.cache import EmbeddingCache
from lakebed.serve.errors import DeadlineError, InvalidRequestError
from lakebed.serve.inputs import read_items, read_token_rows
from lakebed.serve.key_limits import KeyRates
from lakebed.serve.lookup import Cached, Lookup, Uncached
from lakebed.serve.metrics import (
    CACHE_BYTES,
    CACHE_EVICTIONS,
    CACHE_HITS,
    CACHE_MISSES,
    MODEL_INFO,
    QUEUED_REQUESTS,
    QUEUED_TOKENS,
    Metrics,
    NoMetrics,
)
from lakebed.serve.models import Permitted, ServedModel, ServedModels
from lakebed.serve.protocol import EmbeddingsRequest, read_request
from lakebed.serve.request_record import RequestRecord
from lakebed.serve.store.keys import Key
from lakebed.serve.token_estimate import SAMPLES_PER_TOKEN, estimate_tokens
from lakebed.serve.tokens import NO_TOKENS, OwnTokens, TokenReader
from lakebed.serve.truncation import Truncation, prepare, refuse_truncation, truncation_of
from lakebed.serve.wire import Usage, embeddings_body

_LONGEST_TOKEN: Final = 32
"""Characters."""

_LATE: Final = "send fewer inputs at a time, or try again when there is less to do"

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
    lookup: Lookup
    prepared: Prepared | None
    usage: Usage

    @property
    def cost(self) -> int:
        """What it costs the device."""
        return 0 if self.prepared is None else int(self.prepared.costs.sum())


class Service:
    """Everything a replica answers with. Raises ConfigError when `tokens` and a model do not fit each other."""

    def __init__(
        self,
        models: ServedModels,
        authenticator: Authenticator,
        limits: Limits,
        *,
        tokens: TokenReader = NO_TOKENS,
        key_rates: KeyRates | None = None,
        metrics: Metrics | None = None,
        cache: EmbeddingCache | None = None,
    ) -> None:
        for model in models.distinct():
            tokens.check(model.encoder)
        self.models = models
        self.metrics = metrics or NoMetrics()
        self._cache = cache
        self.authenticator = authenticator
        self.limits = limits
        self._tokens = tokens
        self._key_rates = key_rates or KeyRates(KeyLimits())
        self._admission = Admission(
            limits.max_queued_tokens, limits.max_wait_seconds, models.meter, limits.always_queued_tokens
        )
        self._threads = ThreadPoolExecutor(max(2, os.cpu_count() or 1), thread_name_prefix="prepare")
        self._probe: asyncio.Task[None] | None = None
        self._watch()

    async def embed(
        self,
        body: bytes,
        *,
        as_text: bool = False,
        key: Key | None = None,
        seconds: float | None = None,
        record: RequestRecord | None = None,
    ) -> Answer:
        """Answer one embeddings request of `key`; raises RequestError or ModelNotFoundError.

        Keys share the device fairly. What has not got done in `seconds`, or in the limit, is dropped. `record` is
        filled in.
        """
        within = min(seconds or math.inf, self.limits.max_seconds)
        try:
            async with asyncio.timeout(within):
                return await self._embed(body, as_text, key, record or RequestRecord())
        except TimeoutError:
            raise DeadlineError(f"the request was not answered within {within:g} s", hint=_LATE) from None

    async def _embed(self, body: bytes, as_text: bool, key: Key | None, record: RequestRecord) -> Answer:
        timings, estimate = record.timings, min(estimate_tokens(body), self.limits.max_request_tokens)
        timings.lap()
        async with self._key_rates.hold(key, estimate) as allowance:
            with self._admission.enter(estimate) as ticket:
                prepare = partial(self._prepare, body, as_text, permitted_models(key), record)
                work = await self._off_loop(prepare)
                timings.prepare = timings.lap()
                ticket.correct(work.usage.total_tokens, work.cost)
                allowance.correct(work.usage.total_tokens)
                computed = None
                if work.prepared is not None:
                    computed = await work.model.scheduler.run(work.prepared, key.id if key else "", timings)
                timings.lap()
                answer = await self._off_loop(partial(self._answer, work, computed))
                answer.headers.update(allowance.headers())
                timings.write = timings.lap()
                return answer

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

    def _watch(self) -> None:
        """Have gauges read; whoever exports them asks."""
        self.metrics.watch(QUEUED_TOKENS, lambda: self._admission.tokens)
        self.metrics.watch(QUEUED_REQUESTS, lambda: self._admission.requests)
        if self._cache is not None:
            cache = self._cache
            self.metrics.watch(CACHE_BYTES, lambda: cache.bytes)
        self._watch_models()
        self.models.on_put(self._watch_models)

    def _watch_models(self) -> None:
        """Have it read which version is served under each name; one that was replaced reads 0."""
        for name, model in self.models.named().items():
            labels = {"model": name, "version": model.version, "digest": model.encoder.info.digest}
            self.metrics.watch(MODEL_INFO, partial(self._serves, name, model), **labels)

    def _serves(self, name: str, model: ServedModel) -> float:
        return float(self.models.named()[name] is model)

    def _prepare(self, body: bytes, as_text: bool, permitted: Permitted, record: RequestRecord) -> _Work:
        request = read_request(body)
        model = self.models.find(request.model, permitted)
        record.model = self.models.configured(request.model)
        _check_dimensions(model.encoder.info, request.dimensions)
        truncation = truncation_of(request, model.encoder)
        inputs = self._read(request.input, model, as_text)
        lookup = self._look_up(model, inputs, truncation, record)
        prepared = prepare(model.encoder, lookup.new, truncation.window) if len(lookup.new) else None
        counts = lookup.counts(prepared)
        if not truncation.allowed:
            refuse_truncation(counts.truncated, truncation.window)
        each = counts.tokens - (-counts.samples // SAMPLES_PER_TOKEN)
        _check_size(each, self.limits)
        usage = Usage(int(counts.tokens.sum()), int(each.sum()), int(counts.truncated.sum()))
        _fill_in(record, len(inputs), usage)
        return _Work(request, model, lookup, prepared, usage)

    def _read(self, value: Any, model: ServedModel, as_text: bool) -> list[Item] | OwnTokens:
        """Read `input`, and refuse what is too large already by what it counts at the very least."""
        rows = read_token_rows(value, max_inputs=self.limits.max_inputs)
        if rows is not None:
            _check_size(np.array([len(row) for row in rows]), self.limits)
            return self._tokens.read(rows, model.encoder)
        items = read_items(value, max_inputs=self.limits.max_inputs, as_text=as_text)
        _check_size(np.array([_least_tokens(item) for item in items]), self.limits)
        return items

    def _look_up(
        self, model: ServedModel, inputs: list[Item] | OwnTokens, truncation: Truncation, record: RequestRecord
    ) -> Lookup:
        """Ask the cache, which knows items, read as far as the model reads."""
        info = model.encoder.info
        if self._cache is None or isinstance(inputs, OwnTokens) or truncation.window < info.max_tokens:
            return Uncached(inputs)
        lookup = Cached(self._cache, info.digest, inputs)
        record.cached_items = len(inputs) - len(lookup.new)
        self.metrics.count(CACHE_HITS, record.cached_items)
        self.metrics.count(CACHE_MISSES, len(lookup.new))
        return lookup

    def _answer(self, work: _Work, computed: VectorArray | None) -> Answer:
        evicted = work.lookup.keep(work.prepared, computed)
        self.metrics.count(CACHE_EVICTIONS, evicted)
        return _answer(work, work.lookup.vectors(computed))


def _fill_in(record: RequestRecord, items: int, usage: Usage) -> None:
    record.items = items
    record.text_tokens = usage.prompt_tokens
    record.signal_tokens = usage.total_tokens - usage.prompt_tokens
    record.truncated_tokens = usage.truncated_tokens


def _answer(work: _Work, raw: VectorArray) -> Answer:
    request, info = work.request, work.model.encoder.info
    vectors = work.model.encoder.finish(raw, request.dimensions)
    body = embeddings_body(
        request.model,
        vectors,
        work.usage,
        base64=request.encoding_format == "base64",
        dtype=request.embed_dtype or "float32",
    )
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
