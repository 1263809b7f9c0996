"""Where the time of one request went. Knows no HTTP framework: only what the headers are called."""

import time
from dataclasses import dataclass, field


@dataclass
class Timings:
    """Seconds by stage. `total` also holds what belongs to no stage, such as reading the body.

    `prepare` is parsing, checking and tokenizing; `queue` is waiting for the device, `forward` the batches that
    held the request's items; `write` is cutting vectors and writing them down. Waiting for a worker thread is part
    of the stage that waits.
    """

    queue: float = 0.0
    prepare: float = 0.0
    forward: float = 0.0
    write: float = 0.0
    total: float = 0.0
    _started: float = field(default_factory=time.perf_counter, repr=False)
    _lap: float = field(default_factory=time.perf_counter, repr=False)

    def lap(self) -> float:
        """Seconds since the last lap, or since the start."""
        now = time.perf_counter()
        seconds, self._lap = now - self._lap, now
        return seconds

    def stop(self) -> None:
        """Set `total` to what has passed since the start."""
        self.total = time.perf_counter() - self._started

    def stages(self) -> dict[str, float]:
        """The stages, in the order a request goes through them, without the total."""
        return {"prepare": self.prepare, "queue": self.queue, "forward": self.forward, "write": self.write}

    def headers(self) -> dict[str, str]:
        """Milliseconds, for the answer; OpenAI's own header has whole ones."""
        milliseconds = {**self.stages(), "total": self.total}
        del milliseconds["write"]
        shown = {f"x-lakebed-{stage}-ms": f"{1000 * seconds:.2f}" for stage, seconds in milliseconds.items()}
        return {**shown, "openai-processing-ms": str(round(1000 * self.total))}
