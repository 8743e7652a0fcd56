"""The loops behind trailing windows, compiled at first use. Exact in int64; knows nothing of frames.

Rows of history and queries (events whose windows are wanted) lie in order of group, and within a group
in order of time: group g owns positions starts[g] to starts[g + 1]. All times are microseconds.
A row can be seen from `enter` on, and no longer from min(event + over + 1, superseded) on.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
HASHES, FLAGS = (numba.types.Array(kind, 1, "C", readonly=True) for kind in (numba.types.uint64, numba.types.boolean))


def _require_cache_folder() -> None:
    """Gives numba a private folder for compiled code where the package's own cannot be written."""
    if numba.config.CACHE_DIR or os.access(Path(__file__).parent, os.W_OK):
        return
    folder = Path(tempfile.gettempdir()) / f"evergreen-numba-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Compiled code is loaded from here: a folder somebody else prepared is not to be trusted.
    trusted = not folder.is_symlink() and folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022
    numba.config.CACHE_DIR = str(folder) if trusted else tempfile.mkdtemp(prefix="evergreen-numba-")


_require_cache_folder()


@numba.njit("void(int64[::1], int64[::1], int64, int64, int64)", cache=True, nogil=True)
def _push(keys: Ints, payloads: Ints, size: int, key: int, payload: int) -> None:
    """Adds an entry to the heap of `size` entries with the least key on top."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if keys[parent] <= key:
            break
        keys[child] = keys[parent]
        payloads[child] = payloads[parent]
        child = parent
    keys[child] = key
    payloads[child] = payload


@numba.njit("void(int64[::1], int64[::1], int64)", cache=True, nogil=True)
def _pop(keys: Ints, payloads: Ints, size: int) -> None:
    """Takes the top off the heap of `size` entries; size - 1 are left."""
    last = size - 1
    key, payload = keys[last], payloads[last]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= last:
            break
        if child + 1 < last and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[parent] = keys[child]
        payloads[parent] = payloads[child]
        parent = child
    keys[parent] = key
    payloads[parent] = payload


@numba.njit((HASHES, HASHES, FLAGS), cache=True, nogil=True)
def number_groups(first: Hashes, second: Hashes, absent: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], int]:
    """A number from 0 for every distinct pair of hashes, in order of appearance, -1 where absent; and how many.

    By an open table of the row each pair was first seen in: sorting took four times as long.
    """
    size = 1
    while size < 2 * first.size:
        size *= 2
    mask = np.uint64(size - 1)
    seen_in = np.full(size, -1, np.int32)
    numbers = np.empty(first.size, np.int32)
    count = 0
    for row in range(first.size):
        if absent[row]:
            numbers[row] = -1
            continue
        slot = first[row] & mask
        other = seen_in[slot]
        while other >= 0 and (first[other] != first[row] or second[other] != second[row]):
            slot = (slot + np.uint64(1)) & mask
            other = seen_in[slot]
        if other < 0:
            seen_in[slot] = row
            numbers[row] = count
            count += 1
        else:
            numbers[row] = numbers[other]
    return numbers, count


@numba.njit("Tuple((int64[::1], int64[::1]))(int32[::1], int64[::1], int64)", cache=True, nogil=True)
def order_by_group(groups: npt.NDArray[np.int32], in_time: Ints, num_groups: int) -> tuple[Ints, Ints]:
    """Starts [num_groups + 1] and order [kept]: a counting sort by group that keeps the order `in_time`.

    Rows of group -1 are left out.
    """
    starts = np.zeros(num_groups + 1, np.int64)
    for row in range(groups.size):
        starts[groups[row] + 1] += 1
    starts[0] = 0
    for group in range(num_groups):
        starts[group + 1] += starts[group]
    ahead = starts[:-1].copy()
    order = np.empty(starts[num_groups], np.int64)
    for row in in_time:
        group = groups[row]
        if group >= 0:
            order[ahead[group]] = row
            ahead[group] += 1
    return starts, order


_HISTORY = "int64[::1], int64[::1], int64[::1], int64[::1], int64[::1]"
_QUERIES = "int64[::1], int64[::1], int64[::1]"


@numba.njit(f"void({_HISTORY}, {_QUERIES}, int64, int64[::1], int64[::1])", cache=True, nogil=True)
def trailing_sums(
    starts: Ints,
    enter: Ints,
    event: Ints,
    superseded: Ints,
    values: Ints,
    query_starts: Ints,
    query_times: Ints,
    query_rows: Ints,
    over: int,
    counts: Ints,
    sums: Ints,
) -> None:
    """Fills counts[row] and sums[row] with the number and the sum of the rows each query sees.

    Rows that leave in the order they came wait in a queue, the others (late or superseded) in a heap.
    """
    longest = 0
    for group in range(starts.size - 1):
        longest = max(longest, starts[group + 1] - starts[group])
    queue_leave, queue_value = np.empty(longest, np.int64), np.empty(longest, np.int64)
    heap_leave, heap_value = np.empty(longest, np.int64), np.empty(longest, np.int64)
    for group in range(starts.size - 1):
        row, end = starts[group], starts[group + 1]
        head, tail, heaped, count, total = 0, 0, 0, 0, 0
        for query in range(query_starts[group], query_starts[group + 1]):
            now = query_times[query]
            while row < end and enter[row] <= now:
                leave = min(event[row] + over + 1, superseded[row])
                if leave > now:
                    count += 1
                    total += values[row]
                    if head == tail or leave >= queue_leave[tail - 1]:
                        queue_leave[tail], queue_value[tail] = leave, values[row]
                        tail += 1
                    else:
                        _push(heap_leave, heap_value, heaped, leave, values[row])
                        heaped += 1
                row += 1
            while head < tail and queue_leave[head] <= now:
                count -= 1
                total -= queue_value[head]
                head += 1
            while heaped > 0 and heap_leave[0] <= now:
                count -= 1
                total -= heap_value[0]
                _pop(heap_leave, heap_value, heaped)
                heaped -= 1
            counts[query_rows[query]] = count
            sums[query_rows[query]] = total


@numba.njit(f"void({_HISTORY}, {_QUERIES}, int64, int64[::1], boolean[::1])", cache=True, nogil=True)
def trailing_max(
    starts: Ints,
    enter: Ints,
    event: Ints,
    superseded: Ints,
    values: Ints,
    query_starts: Ints,
    query_times: Ints,
    query_rows: Ints,
    over: int,
    largest: Ints,
    seen: npt.NDArray[np.bool_],
) -> None:
    """Fills largest[row] with the largest value each query sees, and seen[row] with whether it sees any.

    A heap with the largest value on top; rows that left are dropped when they come to the top. Keys are
    complements (~value), which reverse the order without overflow.
    """
    longest = 0
    for group in range(starts.size - 1):
        longest = max(longest, starts[group + 1] - starts[group])
    keys, leaves = np.empty(longest, np.int64), np.empty(longest, np.int64)
    for group in range(starts.size - 1):
        row, end = starts[group], starts[group + 1]
        size = 0
        for query in range(query_starts[group], query_starts[group + 1]):
            now = query_times[query]
            while row < end and enter[row] <= now:
                leave = min(event[row] + over + 1, superseded[row])
                if leave > now:
                    key = ~values[row]
                    # What is smaller and leaves no later can never be the answer again.
                    while size > 0 and key <= keys[0] and leaves[0] <= leave:
                        _pop(keys, leaves, size)
                        size -= 1
                    _push(keys, leaves, size, key, leave)
                    size += 1
                row += 1
            while size > 0 and leaves[0] <= now:
                _pop(keys, leaves, size)
                size -= 1
            if size > 0:
                largest[query_rows[query]] = ~keys[0]
                seen[query_rows[query]] = True
