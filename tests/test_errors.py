"""The error tree: every error crosses Ray whole, and has one exit code."""

import inspect
import pickle

import pytest

from lakebed.cli.exit_codes import exit_code
from lakebed.platform import errors

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.LakebedError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling(kind):
    error = kind("what went wrong", hint="do this", position=3)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.context) == ("what went wrong (do this)", {"position": 3})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_has_an_exit_code_of_its_own_kind(kind):
    assert 1 <= exit_code(kind("x")) < 100


def test_the_docstring_draws_the_whole_tree():
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in KINDS)
