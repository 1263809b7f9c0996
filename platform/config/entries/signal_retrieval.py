"""An entry of labelled time series that find each other."""

from typing import Literal

from lakebed.platform.config.entries.labelled import Labelled


class SignalRetrieval(Labelled):
    """Each test signal asks among the train signals; right answers share its class."""

    task: Literal["signal_retrieval"]
    """Chooses this kind of entry."""
