"""Forwards TCP connections: pods reach this machine at one address only, and not what listens on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

Address = tuple[str, int]


@contextmanager
def forwarding(listen: str, target: Address) -> Iterator[int]:
    """Port on the address `listen` from which every connection goes on to `target`, while the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(_serve(listen, target), loop).result(10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _serve(listen: str, target: Address) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*target)
        await asyncio.gather(_copy(reader, back), _copy(there, writer))

    return await asyncio.start_server(connected, listen, 0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):  # either side may hang up when it likes
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
