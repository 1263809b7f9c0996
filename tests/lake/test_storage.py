"""Folders in a store, while others are at work in them."""

import errno
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from lakebed.platform.lake.storage import remove_folder


def test_a_folder_goes_though_a_file_comes_in_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, remove, late = tmp_path / "run", LocalFileSystem.rm, ["a", "b"]
    folder.mkdir()

    def overtaken(store: LocalFileSystem, path: str, **options: Any) -> None:
        if late:
            (folder / late.pop()).touch()
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        remove(store, path, **options)

    monkeypatch.setattr(LocalFileSystem, "rm", overtaken)
    remove_folder(str(folder))
    assert not folder.exists()


def test_a_folder_that_cannot_be_removed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(LocalFileSystem, "rm", refused)
    with pytest.raises(OSError, match="not empty"):
        remove_folder(str(tmp_path))
