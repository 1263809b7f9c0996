"""Admission by tokens."""

import pytest

from lakebed.serve.admission import Admission
from lakebed.serve.errors import OverloadedError


def test_what_does_not_fit_is_told_when_to_come_back() -> None:
    admission = Admission(100)
    with admission.enter(80), pytest.raises(OverloadedError) as caught, admission.enter(30):
        pass
    assert 0 < caught.value.retry_after <= 5
    assert admission.tokens == 0


def test_the_true_cost_replaces_the_estimate() -> None:
    admission = Admission(100)
    with admission.enter(80) as ticket:
        ticket.correct(10)
        with admission.enter(90):
            assert admission.tokens == 100
    assert admission.tokens == 0


def test_an_empty_server_takes_any_request() -> None:
    admission = Admission(100)
    with admission.enter(150):
        assert admission.tokens == 150


def test_a_request_that_fails_gives_its_share_back() -> None:
    admission = Admission(100)
    with pytest.raises(ValueError, match="broken"), admission.enter(50):
        raise ValueError("broken")
    assert admission.tokens == 0
