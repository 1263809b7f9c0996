"""Ranges of positions are what sets of positions are."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lakebed.jobs.ranges import (
    Ranges,
    count,
    first_overlap,
    joined,
    members,
    ranges_of,
    split_at,
    within,
    without,
)

positions = st.sets(st.integers(0, 60), max_size=40)


def of(places: set[int]) -> Ranges:
    return ranges_of(np.array(sorted(places, key=lambda place: (place * 7) % 11), np.int64))


def places_of(ranges: Ranges) -> set[int]:
    assert first_overlap(ranges) is None
    return {at for start, stop in ranges for at in range(start, stop)}


@given(positions)
def test_they_hold_the_positions_given_and_are_as_few_as_can_be(places: set[int]) -> None:
    found = of(places)
    assert places_of(found) == places
    assert count(found) == len(places)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(positions, positions)
def test_taking_away_joining_and_asking(ours: set[int], theirs: set[int]) -> None:
    assert places_of(without(of(ours), of(theirs))) == ours - theirs
    assert places_of(joined([*of(ours), *of(theirs - ours)])) == ours | theirs
    asked = np.array(sorted(theirs), np.int64)
    inside = members(of(ours), asked)
    assert set(asked[inside].tolist()) == ours & theirs
    chosen, others = split_at(asked, inside)
    assert (places_of(chosen), places_of(others)) == (theirs & ours, theirs - ours)


@given(positions, st.integers(0, 60), st.integers(0, 60))
def test_those_from_here_to_there(places: set[int], first: int, last: int) -> None:
    assert places_of(within(of(places), first, last)) == {at for at in places if first <= at < last}


@given(positions.filter(bool), positions)
def test_a_position_that_comes_twice_is_found(ours: set[int], theirs: set[int]) -> None:
    twice = ours & theirs
    overlap = first_overlap(joined([*of(ours), *of(theirs)]))
    assert (overlap in twice) if twice else overlap is None
    doubled = ranges_of(np.array([*ours, *ours], np.int64))
    assert first_overlap(doubled) in ours
