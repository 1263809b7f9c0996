"""Equal rows pair off one to one, whatever their order."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakebed.jobs.signatures import Signatures, found_in, matched, signatures_of

SCHEMA = pa.schema([("id", pa.int64()), ("site", pa.string())])
contents = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=30)


def of(keys: list[str | None], ids: list[int] | None = None) -> Signatures:
    rows = pa.table({"id": pa.array(ids or [0] * len(keys), pa.int32()), "site": ["s"] * len(keys)})
    return signatures_of(rows, keys, SCHEMA, ["id", "site"], ["id"])


@given(contents, contents)
def test_as_many_pair_off_as_both_sides_have(ours: list[str | None], theirs: list[str | None]) -> None:
    left, right = matched(of(ours).whole, of(theirs).whole)
    common = Counter(filter(None, ours)) & Counter(filter(None, theirs))
    assert Counter(np.array(ours, object)[left]) == common
    assert Counter(np.array(theirs, object)[right]) == common


def test_a_copied_column_counts_as_the_table_stores_it_and_a_key_by_itself() -> None:
    stored = signatures_of(
        pa.table({"id": [1, 2], "site": ["s", "t"]}), ["a", "b"], SCHEMA, ["id", "site"], ["id"]
    )
    read = of(["a", "b"], [1, 2])
    assert matched(read.whole, stored.whole)[0].tolist() == [True, False]
    assert found_in(read.keys, stored.keys).tolist() == [True, True]
    assert found_in(of(["z"], [3]).keys, stored.keys).tolist() == [False]
