from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.localcluster import log_reader
from evergreen.localcluster.log_reader import LogRequest, read_log
from evergreen.localcluster.log_writer import LONGEST_LINE_BYTES, LogWriter
from evergreen.localcluster.wire import epoch_nanoseconds, rfc3339_nano

START = 1_790_000_000_000_000_000


def read(path: Path, wanted: LogRequest) -> bytes:
    async def collect() -> bytes:
        return b"".join([block async for block in read_log(path, wanted, lambda: True)])

    return asyncio.run(collect())


def write_log(path: Path, texts: list[bytes], torn: bytes = b"") -> list[bytes]:
    lines = [b"%s %s\n" % (rfc3339_nano(START + 7 * i).encode(), text) for i, text in enumerate(texts)]
    path.write_bytes(b"".join(lines) + torn)
    return lines


@settings(max_examples=150)
@given(
    texts=st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"\r")), max_size=30),
    since=st.none() | st.integers(-20, 240),
    tail=st.none() | st.integers(0, 35),
    chunk=st.sampled_from([1, 7, 64, 1 << 18]),
    torn=st.sampled_from([b"", b"2026-11-2"]),
)
def test_since_and_tail_give_exactly_the_lines_that_both_allow(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[bytes],
    since: int | None,
    tail: int | None,
    chunk: int,
    torn: bytes,
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    lines = write_log(path, texts, torn)
    wanted_from = len(lines) - tail if tail is not None else 0
    expected = [
        line for i, line in enumerate(lines) if i >= wanted_from and (since is None or START + 7 * i >= START + since)
    ]
    request = LogRequest(timestamps=True, since_nanoseconds=None if since is None else START + since, tail_lines=tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_reader, "_CHUNK_BYTES", chunk)
        assert read(path, request) == b"".join(expected)


def test_times_are_left_out_unless_asked_for_even_where_a_line_looks_like_one(tmp_path: Path) -> None:
    text = rfc3339_nano(START).encode() + b" nested"
    write_log(tmp_path / "log", [text, b"", b"plain"])
    assert read(tmp_path / "log", LogRequest()) == text + b"\n\nplain\n"


def test_limit_cuts_at_the_byte(tmp_path: Path) -> None:
    write_log(tmp_path / "log", [b"abcdef", b"ghi"])
    assert read(tmp_path / "log", LogRequest(limit_bytes=9)) == b"abcdef\ngh"


def test_writer_gives_every_line_a_time_of_its_own(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    writer = LogWriter(tmp_path / "log")
    os.write(write_end, b"one\ntwo\n\nthr")
    assert writer.pump(read_end)
    os.write(write_end, b"ee\nlast without newline")
    os.close(write_end)
    writer.drain(read_end)
    writer.close()
    os.close(read_end)
    lines = (tmp_path / "log").read_bytes().splitlines()
    stamps = [epoch_nanoseconds(line[:30].decode()) for line in lines]
    assert [line[31:] for line in lines] == [b"one", b"two", b"", b"three", b"last without newline"]
    assert stamps == sorted(set(stamps))


def test_output_without_newlines_does_not_pile_up(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    writer = LogWriter(tmp_path / "log")
    total = 0
    while total < 2 * LONGEST_LINE_BYTES + 1:
        total += os.write(write_end, b"x" * 65_536)
        writer.pump(read_end)
    os.close(write_end)
    writer.drain(read_end)
    writer.close()
    os.close(read_end)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert len(lines) >= 2
    assert sum(len(line) - 31 for line in lines) == total


def test_full_disk_loses_lines_but_never_blocks_and_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = os.pipe()
    writer = LogWriter(tmp_path / "log")
    write = os.write

    def pump(text: bytes) -> None:
        write(write_end, text)
        assert writer.pump(read_end)

    def no_space(descriptor: int, text: bytes) -> int:
        if len(text) > 40:
            return write(descriptor, text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    pump(b"before\n")
    monkeypatch.setattr(os, "write", no_space)
    pump(b"lost\nlost too\n")
    monkeypatch.undo()
    pump(b"after\n")
    writer.close()
    for end in (read_end, write_end):
        os.close(end)
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert [line[31:] for line in lines] == [b"before", b"[2 lines lost: disk full]", b"after"]
