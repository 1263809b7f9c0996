"""What a run has staged so far, as its driver counts it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lakebed.jobs.coverage import Coverage
from lakebed.jobs.encoding import NORM_TOLERANCE
from lakebed.jobs.staging import Staged, StagedRows
from lakebed.platform.errors import CommitError, TooManyBadRowsError
from lakebed.platform.lake.parts import Part

_FEW: Final = 100
"""Rows; of fewer, chance decides what share has equal vectors."""
_GO_ON: Final = (
    "mend the source, or allow more with max_quarantined, and run again: it goes on; with other `columns`, write "
    "to another sink"
)


@dataclass
class Pending:
    """Parts that are staged and not committed."""

    parts: list[Part] = field(default_factory=list)
    quarantined: list[Part] = field(default_factory=list)

    def add(self, rows: StagedRows) -> None:
        """Note what one call staged."""
        self.parts += [rows.part] if rows.part else []
        self.quarantined += [rows.quarantine] if rows.quarantine else []

    def __add__(self, other: "Pending") -> "Pending":
        return Pending(self.parts + other.parts, self.quarantined + other.quarantined)


@dataclass
class Account:
    """What has been staged so far; `pending` and `held_back` of it are not committed."""

    coverage: Coverage
    pending: Pending = field(default_factory=Pending)
    held_back: Pending = field(default_factory=Pending)
    errors: Counter[str] = field(default_factory=Counter)
    example: str | None = None
    good: int = 0
    bad: int = 0
    tokens: int = 0
    samples: int = 0
    equal: int = 0
    began: float = float("inf")

    def add(self, staged: Staged) -> None:
        """Count one staged part; raises CommitError when its vectors are not of unit length."""
        if not (staged.least_norm >= 1 - NORM_TOLERANCE and staged.greatest_norm <= 1 + NORM_TOLERANCE):
            raise CommitError(
                f"vectors have lengths from {staged.least_norm:.4g} to {staged.greatest_norm:.4g}, not 1; "
                "nothing more was committed"
            )
        self.coverage.add(staged.ranges)
        self.pending.add(staged.rows)
        self.held_back.add(staged.held_back)
        self.errors.update(staged.errors)
        self.example = self.example or staged.example
        self.good += staged.good
        self.bad += staged.bad
        self.tokens += staged.tokens
        self.samples += staged.samples
        self.equal += staged.equal
        self.began = min(self.began, staged.began)

    def take_pending(self, *, last: bool) -> Pending:
        """Give what is to be committed now: with `last`, also what was held back."""
        taken = self.pending + self.held_back if last else self.pending
        self.pending = Pending()
        if last:
            self.held_back = Pending()
        return taken

    def uncommitted(self) -> Iterable[Pending]:
        """Everything that is staged and not committed."""
        return self.pending, self.held_back

    def check_quarantined(self, limit: float, rows: int, before: int = 0, commits: int = 0) -> None:
        """Raise TooManyBadRowsError once more than a share `limit` of all `rows` is bad; `before` were already.

        `commits` is how many the run has made, which stay.
        """
        if self.bad + before <= limit * rows:
            return
        reasons = ", ".join(f"{count:,} {code}" for code, count in self.errors.most_common(3))
        raise TooManyBadRowsError(
            f"{self.bad:,} of {self.good + self.bad:,} rows cannot be embedded: {reasons}; at most {limit:.4g} of "
            f"{rows:,} may be; {_stays(commits)}; for example: {self.example}",
            hint=_GO_ON if commits else "check `columns`, or allow more with max_quarantined",
        )

    def check_equal(self, limit: float, rows: int, commits: int = 0) -> None:
        """Raise CommitError once more than a share `limit` of `rows` has the vector of another content."""
        if self.equal <= limit * max(rows, _FEW):
            return
        raise CommitError(
            f"{self.equal:,} of {self.good:,} rows have the vector of another row with another content; at most "
            f"{limit:.4g} of {rows:,} may; {_stays(commits)}",
            hint="is the model broken? Else allow more with validation.max_equal_vectors",
        )


def _stays(commits: int) -> str:
    if not commits:
        return "nothing was committed"
    return f"what this run has committed ({commits:,} commit{'s' if commits > 1 else ''}) stays, nothing more was"
