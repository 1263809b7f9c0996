"""Files that are whole or not there, whatever is killed when; and how much of them there is."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from lakebed.platform.errors import ConfigError


def write_durably(path: Path, data: bytes) -> None:
    """Write beside, flush to the disk, rename into place; raises ConfigError when that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix="partial-", delete=False) as file:
            partial = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ConfigError(
            f"{path.parent}: cannot be written: {error.strerror}", hint="see LAKEBED_HOME, or give --no-cache"
        ) from None


def size_of_folder(folder: Path) -> tuple[int, int]:
    """How many files lie under a folder, and their bytes; one that vanishes meanwhile is not counted."""
    count = size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(place) / name).stat().st_size
            except FileNotFoundError:
                continue
            count += 1
    return count, size


def trim_folder(folder: Path, most: int) -> int:
    """Remove the files that were used longest ago until at most `most` bytes are left; returns how many went."""
    found = []
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names):
            with suppress(FileNotFoundError):  # another process was first
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
    left, removed = sum(size for _, size, _ in found), 0
    for _, size, path in sorted(found):
        if left <= most:
            break
        path.unlink(missing_ok=True)
        left, removed = left - size, removed + 1
    return removed


def mark_as_used(path: Path) -> None:
    """Let a file count as used now, for `trim_folder`; one that is gone or not ours stays as it is."""
    with suppress(OSError):
        os.utime(path)


def clear_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; files are only opened whole, so readers lose nothing but time."""
    shutil.rmtree(folder, ignore_errors=True)
