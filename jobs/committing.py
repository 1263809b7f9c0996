"""Commits of a run: what is staged becomes visible now and then, and in the end for good.

First the quarantine table, then the result: a result that is visible has its bad rows on record. Each commit is
made upon the state that the one before it left, so of two drivers one fails.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lakebed.jobs.account import Account, Pending
from lakebed.platform.errors import LakebedError
from lakebed.platform.lake.parts import Part
from lakebed.platform.lake.sink import Commit, Sink, SinkState

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exchange:
    """Parts of a table that take the place of others."""

    parts: Sequence[Part] = ()
    removed: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.parts or self.removed)


@dataclass(frozen=True)
class Committed:
    """One commit that landed: the result's sequence and version, and the rows that it added."""

    sequence: int
    version: str
    rows: int
    quarantined: int
    at: datetime


class Committer:
    """Commits one run's parts to one slot of the two tables."""

    def __init__(
        self,
        result: tuple[Sink, SinkState],
        quarantine: tuple[Sink, SinkState],
        slot: str,
        run: str,
        metadata: Mapping[str, str],
        tell: Callable[[Committed], None] = lambda _: None,
    ) -> None:
        self._result, self.result_state = result
        self._quarantine, self.quarantine_state = quarantine
        self._slot = slot
        self._run = run
        self._metadata = metadata
        self._tell = tell
        self._unsure = False
        self.commits: list[Committed] = []

    def commit_some(self, account: Account) -> None:
        """Make visible what is staged, without what is held back; nothing happens when there is nothing."""
        account.coverage.check_once()
        pending = account.take_pending(last=False)
        if pending.parts or pending.quarantined:
            self._commit(pending, Exchange(), Exchange(), None)

    def commit_last(self, account: Account, result: Exchange, quarantine: Exchange, complete_for: str) -> None:
        """Make everything visible, exchange parts, and mark the slot as complete for a version of the source."""
        account.coverage.check_whole()
        self._commit(account.take_pending(last=True), result, quarantine, complete_for)

    def discard(self, account: Account) -> None:
        """Remove what was staged and not committed, when a run fails; nothing if it failed in a commit.

        A store may have taken a commit whose answer was lost or interrupted, and then these files are the table.
        """
        if self._unsure:
            return
        try:
            self._discard(account)
        except LakebedError as error:  # it must not stand in for what ended the run
            _log.warning("%s; `lakebed jobs clean` removes what is left of the run", error)

    def _discard(self, account: Account) -> None:
        if not self.commits:
            self._result.discard(self._run)
            self._quarantine.discard(self._run)
            return
        for pending in account.uncommitted():
            self._result.remove([part.path for part in pending.parts])
            self._quarantine.remove([part.path for part in pending.quarantined])

    def _commit(self, pending: Pending, result: Exchange, quarantine: Exchange, complete_for: str | None) -> None:
        self._unsure = True
        if pending.quarantined or quarantine:
            self.quarantine_state = self._quarantine.commit(
                self.quarantine_state, self._of(pending.quarantined, quarantine, None)
            )
        if pending.parts or result or complete_for is not None:
            self.result_state = self._result.commit(
                self.result_state, self._of(pending.parts, result, complete_for)
            )
        self._unsure = False
        done = Committed(
            self.result_state.sequence,
            self.result_state.version or "",
            sum(part.rows for part in pending.parts),
            sum(part.rows for part in pending.quarantined),
            datetime.now(UTC),
        )
        self.commits.append(done)
        self._tell(done)

    def _of(self, parts: Sequence[Part], exchange: Exchange, complete_for: str | None) -> Commit:
        return Commit(
            self._slot, self._run, [*parts, *exchange.parts], exchange.removed, complete_for, self._metadata
        )
