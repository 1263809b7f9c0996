"""The authority over rate limits as a Ray actor, one for all replicas of an application.

A detached actor: it outlives the replica that made it and every replacement of replicas, is restarted by Ray when
it dies, and ends itself when no replica has been heard of for a while. Restarted, it has forgotten the last
minute.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import ray
from ray.exceptions import RayError

from lakebed.serve.leases import Ask, Authority, Grant
from lakebed.serve.limiters import AuthorityLostError, Settled

_NAMESPACE: Final = "lakebed"
_ANSWER_SECONDS: Final = 1.0
_ALONE_SECONDS: Final = 300.0
"""Serve asks replicas for their health every ten seconds, and they ask the authority."""

_Result = TypeVar("_Result")


class AuthorityActor:
    """Runs in a process of its own and does nothing but arithmetic."""

    def __init__(self, alone_seconds: float = _ALONE_SECONDS) -> None:
        self._authority = Authority()
        self._alone_seconds = alone_seconds
        self._heard = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def lease(self, ask: Ask) -> Grant:
        """Hand out a lease, or say when."""
        await self.hear()
        return self._authority.lease(ask, time.monotonic())

    async def settle(self, key: str, settled: Settled) -> None:
        """Correct what leases were counted for."""
        await self.hear()
        self._authority.settle(key, settled, time.monotonic())

    async def hear(self) -> None:
        """Note that a replica is there."""
        self._heard = time.monotonic()
        self._watch = self._watch or asyncio.create_task(self._end_when_alone())

    async def _end_when_alone(self) -> None:
        while (left := self._heard + self._alone_seconds - time.monotonic()) > 0:
            await asyncio.sleep(left)
        ray.kill(ray.get_runtime_context().current_actor)


class RayAuthority:
    """Reaches the actor called `name`, and makes it where there is none."""

    def __init__(self, name: str, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self._name = name
        self._answer_seconds = answer_seconds
        self._actor: Any = None

    async def lease(self, ask: Ask) -> Grant:
        """Ask for a lease; raises AuthorityLostError."""
        actor = await self._reach()
        return await self._answer(actor.lease.remote(ask))

    async def settle(self, key: str, settled: Settled) -> None:
        """Say what was spent of earlier leases; raises AuthorityLostError."""
        actor = await self._reach()
        await self._answer(actor.settle.remote(key, settled))

    async def greet(self) -> None:
        """Keep the actor alive, and make it where there is none; raises AuthorityLostError."""
        actor = await self._reach()
        await self._answer(actor.hear.remote())

    async def _reach(self) -> Any:
        if self._actor is None:
            try:
                self._actor = await asyncio.to_thread(_actor, self._name)
            except (RayError, ValueError) as error:
                raise AuthorityLostError(f"the authority cannot be made: {_first_line(error)}") from error
        return self._actor

    async def _answer(self, answer: Awaitable[_Result]) -> _Result:
        try:
            return await asyncio.wait_for(answer, self._answer_seconds)
        except TimeoutError:
            raise AuthorityLostError(f"the authority has not answered in {self._answer_seconds:g} s") from None
        except RayError as error:
            self._actor = None  # it may have ended for good; one that is restarted is found by its name
            raise AuthorityLostError(f"the authority does not answer: {_first_line(error)}") from error


def _actor(name: str) -> Any:
    return (
        ray.remote(AuthorityActor)
        .options(
            name=name,
            namespace=_NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            max_restarts=-1,
        )
        .remote()
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
