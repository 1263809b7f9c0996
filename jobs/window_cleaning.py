"""Which windows no run needs any more, told from the table they were made for. Removes nothing.

Windows can be cut again from a source version that is still there; what is told here costs time when it is wrong,
never a row.
"""

from collections.abc import Sequence

from lakebed.jobs.window_store import KeptWindows
from lakebed.platform.lake.sink import SinkState, mark_of
from lakebed.platform.lake.storage import StoredFile


def windows_not_needed(kept: Sequence[KeptWindows], table: SinkState | None) -> list[tuple[StoredFile, ...]]:
    """Files in groups that go together or stay together: what attempts left, and whole windows that are outdated.

    Windows are outdated once the job has brought the table to a source version whose windows were made later. The
    windows of that version stay, for another model or another try, and so does what was made after them, which the
    next run may go on with. While no version is done, all whole windows stay.
    """
    complete = {mark for mark in table.slots.values() if mark is not None} if table else set()
    done = [one.made for one in kept if one.made and one.version and mark_of(one.version) in complete]
    unneeded: list[tuple[StoredFile, ...]] = []
    for one in kept:
        if one.made and done and one.made < max(done):
            unneeded.append(one.files)
        else:
            unneeded += one.attempts()
    return unneeded
