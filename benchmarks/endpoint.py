"""How fast the endpoint answers, beside infinity_emb and beside its own encoder, and how it bears too much.

    python -m benchmarks.endpoint --json FILE            # about ten minutes
    python -m benchmarks.endpoint --quick --json FILE    # about two
    python -m benchmarks.endpoint --only mixed,overload  # some of them

Both servers run with the same text weights on the same cores (`--cores`, two), each with its own defaults: ours is
`lakebed serve` with `lakebed-embed`, behind its HAProxy, without keys. One load generator in a process of its own
sends either the same requests. Texts come back as base64, since that is what openai-python asks for unless told
otherwise, and both servers have it. The encoder alone runs in this process with as many threads as the server's.
The sides run in turn, and a ratio is the median over rounds of neighbours in time. Answers are checked for
dimensions, length and cosine to the encoder's own vectors.

`single_vs_infinity`, `batch32_vs_infinity`: texts/s over infinity's; 16 connections, 1 and 32 texts a request.
`batch32_efficiency`, `signals_efficiency`: inputs/s over the encoder alone; signals are 8 of 6 x 512 a request.
`single_overhead_ms`: median time of a short text on one connection, less that of the encoder alone.
`p99_mixed_ratio`: p99 of 18 connections that send a short text each, while two more, a tenth of all, always have a
request of 2,048 short texts under way, over the p99 without those two.
`overload_goodput`: 32 texts a request at five times the rate that 16 busy connections reach, as an open loop whose
clients wait for ever and never try again: answers within 5 s, while the load lasts, over that rate.
`overload_memory_growth`: largest resident memory of all the server's processes in the last third of the overload
over that in the first. `overload_recovery_seconds`: from its end until three requests in a row were as fast as
nine of ten before it. `idle_cores_*`: what a server takes from the other sides while it waits for its turn.
"""

import os
from dataclasses import dataclass, replace

from benchmarks.machine import arguments, report, some_of
from lakebed.cli.app import quiet_libraries


@dataclass(frozen=True)
class Sizes:
    """How many rounds, and for how many seconds each side is measured in one."""

    rounds: int = 5
    seconds: float = 4.0
    mixed_seconds: float = 12.0
    peak_seconds: float = 10.0
    overload_seconds: float = 60.0


PARTS = ("texts", "single", "signals", "mixed", "overload")
QUICK = Sizes(rounds=3, seconds=1.5, mixed_seconds=4.0, peak_seconds=4.0, overload_seconds=15.0)


def main() -> None:
    """Measure everything, or as much as there is without the peer."""
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter rounds, and fewer")
    parser.add_argument("--cores", type=int, default=2, help="cores for everything together")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of one side in one round")
    parser.add_argument("--overload-seconds", type=float)
    some_of(PARTS, parser)
    options = parser.parse_args()
    given = {
        name: value for name in ("rounds", "seconds", "overload_seconds") if (value := getattr(options, name))
    }
    sizes = replace(QUICK if options.quick else Sizes(), **given)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    quiet_libraries()  # before torch reads the environment: the encoder alone runs as the server does
    from benchmarks.endpoint_figures import measure

    report(measure(sizes, options.only), options.json)


if __name__ == "__main__":
    main()
