"""Which Ray a job runs on. Knows no ray."""

from typing import Literal

from pydantic import Field

from lakebed.platform.config.base import Config


class ClusterConfig(Config):
    """The Ray a job runs on: one of its own on this machine, or a cluster that is there already."""

    address: str | Literal["embedded", "auto"] | None = None
    """`embedded`: a Ray of the job's own, ended with it. `auto` or host:port: a running cluster.

    Default: the cluster of RAY_ADDRESS when that is set, as in a submitted job, else embedded. To send a job to
    a cluster from outside it, use `lakebed submit`.
    """

    cpus: int | None = Field(default=None, ge=1)
    """CPUs of an embedded Ray. Default: those this process may use."""

    object_store_mib: int = Field(default=512, ge=80)
    """Shared memory of an embedded Ray, in MiB; more spills to disk."""
