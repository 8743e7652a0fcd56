"""A folder of fetched files as an Arrow file system; the folder goes when its last reader does."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs


class FetchedFiles(fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """Read-only view of `folder`.

    Arrow keeps the handler as long as any dataset, scanner or reader made of it, even where the Python
    objects in between are gone, so nothing else knows as well when the files may be removed.
    """

    def __init__(self, folder: Path) -> None:
        self._files = fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def get_type_name(self) -> str:
        return "fetched"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        infos: list[fs.FileInfo] = self._files.get_file_info(paths)
        return infos

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        infos: list[fs.FileInfo] = self._files.get_file_info(selector)
        return infos

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self._files.open_input_file(path)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self._files.open_input_stream(path)

    def _refuse(self, *_: Any) -> None:
        raise OSError("files of the lake are replaced by replace_day and append_day, never changed")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse
