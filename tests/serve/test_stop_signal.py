"""A signal to stop is never missed, whatever becomes of the exception that its handler raises."""

import os
import signal
from contextlib import suppress

import pytest

from lakebed.serve.stop_signal import Stopped, StopSignal

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_signal_unwinds_at_first(number: signal.Signals) -> None:
    with StopSignal() as stop:
        assert not stop.asked
        with pytest.raises(Stopped):
            signal.raise_signal(number)
        assert stop.asked


@BOTH
def test_a_signal_is_heard_though_its_exception_is_swallowed(number: signal.Signals) -> None:
    with StopSignal() as stop:
        with suppress(BaseException):
            signal.raise_signal(number)
        with pytest.raises(Stopped):
            stop.check()


def test_a_signal_is_heard_though_another_has_put_a_handler_of_its_own() -> None:
    with StopSignal() as stop:
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked


@BOTH
def test_once_held_a_signal_only_ends_the_wait(number: signal.Signals) -> None:
    with StopSignal() as stop:
        stop.hold()
        assert not stop.wait(0)
        signal.raise_signal(number)
        assert stop.wait(60)
        assert stop.wait(60)


def test_without_a_signal_nothing_is_raised() -> None:
    with StopSignal() as stop:
        stop.check()
        assert not stop.wait(0.001)


def test_another_signal_is_no_request_to_stop() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert not stop.wait(0)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_was_there_before_is_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with StopSignal():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1
