"""What a run has staged so far, as its driver counts it."""

from collections import Counter
from dataclasses import dataclass, field

from lakebed.jobs.coverage import Coverage
from lakebed.jobs.encoding import NORM_TOLERANCE
from lakebed.jobs.staging import Staged
from lakebed.platform.errors import CommitError, TooManyBadRowsError
from lakebed.platform.lake.parts import Part


@dataclass
class Account:
    """What has been staged so far."""

    coverage: Coverage
    parts: list[Part] = field(default_factory=list)
    quarantined: list[Part] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    example: str | None = None
    good: int = 0
    bad: int = 0
    tokens: int = 0
    samples: int = 0
    began: float = float("inf")

    def add(self, staged: Staged) -> None:
        """Count one staged part; raises CommitError when its vectors are not of unit length."""
        if not (staged.least_norm >= 1 - NORM_TOLERANCE and staged.greatest_norm <= 1 + NORM_TOLERANCE):
            raise CommitError(
                f"vectors have lengths from {staged.least_norm:.4g} to {staged.greatest_norm:.4g}, not 1; "
                "nothing was committed"
            )
        self.coverage.add(staged.ranges)
        self.parts += [staged.part] if staged.part else []
        self.quarantined += [staged.quarantine] if staged.quarantine else []
        self.errors.update(staged.errors)
        self.example = self.example or staged.example
        self.good += staged.good
        self.bad += staged.bad
        self.tokens += staged.tokens
        self.samples += staged.samples
        self.began = min(self.began, staged.began)

    def check_quarantined(self, limit: float, rows: int) -> None:
        """Raise TooManyBadRowsError once more than a share `limit` of all `rows` is bad."""
        if self.bad <= limit * rows:
            return
        reasons = ", ".join(f"{count:,} {code}" for code, count in self.errors.most_common(3))
        raise TooManyBadRowsError(
            f"{self.bad:,} of {self.good + self.bad:,} rows cannot be embedded: {reasons}; at most {limit:.4g} of "
            f"{rows:,} may be; nothing was committed; for example: {self.example}",
            hint="check `columns`, or allow more with max_quarantined",
        )
