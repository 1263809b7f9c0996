"""How a run stands, told from its ledger: progress, rate, time left, commits, what was quarantined, how it ended.

Works from any machine that reaches the store, while the run is at work and after it died; asks no cluster.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from lakebed.jobs.run_record import RunPlan, RunRecord, RunState, read_run
from lakebed.platform.errors import JobFailedError

SILENCE: Final = timedelta(minutes=1)
"""How old a heartbeat may be before a run counts as dead; a driver writes one every few seconds."""

_SECONDS_BETWEEN_LOOKS: Final = 2.0


@dataclass(frozen=True)
class Standing:
    """A run at a moment, by the clock of who looks."""

    record: RunRecord
    now: datetime

    @property
    def plan(self) -> RunPlan:
        """What the run set out to do."""
        return self.record.plan

    @property
    def state(self) -> RunState:
        """What it last said."""
        return self.record.state

    @property
    def silence(self) -> timedelta:
        """Time since the last sign of life; none is counted when the driver's clock is ahead of ours."""
        return max(timedelta(0), self.now - self.state.heartbeat)

    @property
    def status(self) -> str:
        """`running`, `silent` when there is no sign of life, or the outcome: `done`, `failed`, `interrupted`."""
        if self.state.outcome is not None:
            return self.state.outcome.state
        return "silent" if self.silence > SILENCE else "running"

    @property
    def safe_rows(self) -> int:
        """Rows of this job's result that the tables hold: running it again goes on from there."""
        return self.plan.held + self.state.committed

    @property
    def seconds_left(self) -> float | None:
        """Time until all rows are embedded, at the rate of the last minute; None when that is not to be told."""
        rate = self.state.recent_rate
        if self.status != "running" or not rate:
            return None
        return max(0, self.plan.rows - self.state.rows) / rate

    def as_json(self) -> dict[str, Any]:
        """Everything as one flat object."""
        plan, state, outcome = self.plan, self.state, self.state.outcome
        last = state.commits[-1] if state.commits else None
        return {
            "run": plan.run,
            "status": self.status,
            "phase": state.phase,
            "rows": plan.rows,
            "rows_done": state.rows,
            "rows_held": plan.held,
            "rows_committed": state.committed,
            "source_rows": plan.source_rows,
            "units": plan.units,
            "rows_per_second": state.recent_rate,
            "rows_per_second_overall": state.overall_rate,
            "seconds_left": self.seconds_left,
            "commits": state.commit_count,
            "sequence": last.sequence if last else None,
            "sink_version": last.version if last else None,
            "quarantined": sum(state.quarantined.values()),
            **{f"quarantined/{code}": count for code, count in sorted(state.quarantined.items())},
            "error": outcome.error if outcome else None,
            "began": plan.began.isoformat(),
            "heartbeat": state.heartbeat.isoformat(),
            "ended": outcome.at.isoformat() if outcome else None,
            "seconds_silent": self.silence.total_seconds() if outcome is None else None,
            "model": plan.model,
            "model_digest": plan.digest,
            "source": plan.source,
            "source_version": plan.source_version,
            "sink": plan.sink.uri,
            "quarantine": plan.quarantine.uri,
            "host": plan.host,
            "pid": plan.pid,
            "lakebed": plan.lakebed,
        }

    def show(self, console: Console) -> None:
        """Print it for people."""
        for name, value in self.lines():
            console.print(f"[bold]{name:<11}[/]{escape(value)}", soft_wrap=True)

    def lines(self) -> list[tuple[str, str]]:
        """What is printed: names and values."""
        plan, state = self.plan, self.state
        held = f"; {plan.held:,} were held before" if plan.held else ""
        units = "1 unit" if plan.units == 1 else f"{plan.units:,} units"
        share = _share(state.rows, plan.rows)
        lines = [
            ("run", f"{plan.run}  pid {plan.pid} on {plan.host}, lakebed {plan.lakebed}"),
            ("began", f"{plan.began.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"),
            ("model", f"{plan.model}  {plan.digest[:12]}"),
            ("source", f"{plan.source}  version {plan.source_version}, {plan.source_rows:,} rows"),
            ("state", self.sentence()),
            (
                "rows",
                "" if plan.preliminary else f"{state.rows:,} of {plan.rows:,}{share} in {units}{held}",
            ),
            ("rate", self._rates()),
            ("commits", self._commits()),
            ("quarantine", _reasons(state.quarantined, plan.quarantine.uri)),
            ("vectors", plan.sink.uri),
        ]
        return [(name, value) for name, value in lines if value]

    def sentence(self) -> str:
        """The state in a sentence."""
        outcome = self.state.outcome
        if outcome is None and self.status == "running":
            return " ".join(part for part in (self.state.phase, self.state.detail) if part)
        again = f"running the job again {self._goes_on()}"
        if outcome is None:
            return f"no sign of life for {span(self.silence)}: the driver died or lost the store; {again}"
        after = span(outcome.at - self.plan.began)
        if outcome.state == "done":
            return f"done after {after}"
        reason = f": {outcome.error}" if outcome.error else ""
        return f"{outcome.state} after {after}{reason}; {again}"

    def progress(self) -> str:
        """How far it is, in a line."""
        state = self.state
        if self.plan.preliminary:
            return self.sentence()
        rate = f", {self._rates()}" if self._rates() else ""
        bad = f", {sum(state.quarantined.values()):,} quarantined" if state.quarantined else ""
        committed = f", {state.committed:,} committed" if state.committed else ""
        return f"{state.phase}: {state.rows:,} of {self.plan.rows:,} rows{committed}{bad}{rate}"

    def _goes_on(self) -> str:
        if self.plan.preliminary:
            return "goes on from what the tables hold"
        return f"goes on from {self.safe_rows:,} rows" if self.safe_rows else "begins anew"

    def _rates(self) -> str:
        state = self.state
        if state.overall_rate is None:
            return ""
        overall = f"{state.overall_rate:,.0f} rows/s overall"
        if self.status != "running":
            return overall
        left = f"; about {span(timedelta(seconds=self.seconds_left))} left" if self.seconds_left else ""
        return f"{state.recent_rate or 0:,.0f} rows/s over the last minute, {overall}{left}"

    def _commits(self) -> str:
        if not self.state.commits:
            return "none yet" if self.status == "running" else "none"
        last = self.state.commits[-1]
        ago = f", {span(max(timedelta(0), self.now - last.at))} ago" if self.status == "running" else ""
        return (
            f"{self.state.commit_count:,} of {self.state.committed:,} rows; the last is sequence {last.sequence}, "
            f"version {last.version}{ago}"
        )


def stands(table: str, run: str) -> Standing:
    """Look at a run now; raises JobNotFoundError, UnreachableError or TableError."""
    return Standing(read_run(table, run), datetime.now(UTC))


def follow(table: str, run: str, wait: Callable[[float], None] = time.sleep) -> Iterator[Standing]:
    """Look again and again until the run has ended or is silent; the last one says how."""
    while True:
        found = stands(table, run)
        yield found
        if found.status != "running":
            return
        wait(_SECONDS_BETWEEN_LOOKS)


def fail_as(standing: Standing) -> None:
    """Raise JobFailedError unless the run is done or still at work."""
    if standing.status not in ("done", "running"):
        raise JobFailedError(f"run {standing.plan.run}: {standing.sentence()}")


def span(time: timedelta) -> str:
    """A length of time as people say it: two units at most."""
    seconds = int(time.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 2 * 86400:
        return f"{seconds // 3600} h {seconds // 60 % 60} min"
    return f"{seconds // 86400} d {seconds // 3600 % 24} h"


def _share(part: int, whole: int) -> str:
    return f" ({part / whole:.0%})" if whole else ""


def _reasons(errors: Mapping[str, int], place: str) -> str:
    if not errors:
        return ""
    reasons = ", ".join(f"{count:,} {code}" for code, count in sorted(errors.items()))
    return f"{sum(errors.values()):,}: {reasons}; see {place}"
