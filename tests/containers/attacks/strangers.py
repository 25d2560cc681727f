"""Strangers who reach a port and mean harm: slow ones, loud ones, and such as announce more than they send.

Each is a coroutine that attacks one address of this machine until it is cancelled, at a bounded rate.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass

# Connections of a slow one at a time: more than a host may have.
SLOW = 48
SLOW_BYTE_S = 0.5
# Not the address of those who may ask: what one host takes up is limited.
STRANGER = "127.0.0.66"
LOUD_EVERY_S = 0.05

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(512)
HTTP1 = b"GET /metrics HTTP/1.1\r\nHost: here\r\nX-Long: " + b"a" * 512


@dataclass(frozen=True)
class Port:
    number: int
    # What a slow one says there, byte by byte.
    slowly: bytes
    # Whether it speaks TLS.
    tls: bool = False


Attack = Callable[[Port], Coroutine[None, None, None]]


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


async def opened(port: Port, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    opening = asyncio.open_connection("127.0.0.1", port.number, ssl=tls, local_addr=(STRANGER, 0))
    return await asyncio.wait_for(opening, 5)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    try:
        await asyncio.wait_for(writer.wait_closed(), 1)
    except (OSError, asyncio.TimeoutError):
        pass


async def all_of(strangers: list[Coroutine[None, None, None]]) -> None:
    tasks = [asyncio.create_task(stranger) for stranger in strangers]
    try:
        await asyncio.wait(tasks)
    finally:
        await end(tasks)


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    while tasks:
        for task in tasks:
            task.cancel()
        # One that waits with a limit of time may miss it.
        _, tasks = await asyncio.wait(tasks, timeout=1)


async def one_slow(port: Port, words: bytes, tls: ssl.SSLContext | None) -> None:
    while True:
        try:
            _, writer = await opened(port, tls)
            try:
                for byte in words:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(SLOW_BYTE_S)
            finally:
                await closed(writer)
        except (OSError, asyncio.TimeoutError):
            pass
        # It was shut out, and tries again.
        await asyncio.sleep(SLOW_BYTE_S)


async def slow(port: Port) -> None:
    """Slow-loris: many connections that never come to the point."""
    await all_of([one_slow(port, port.slowly, None) for _ in range(SLOW)])


async def slow_inside(port: Port) -> None:
    """The same, after a handshake without a credential."""
    await all_of([one_slow(port, HTTP2, trusting() if port.tls else None) for _ in range(SLOW)])


async def sends(port: Port, what: Callable[[], bytes], tls: bool) -> None:
    while True:
        try:
            _, writer = await opened(port, trusting() if tls else None)
            try:
                writer.write(what())
                await asyncio.wait_for(writer.drain(), 1)
            finally:
                await closed(writer)
        except (OSError, asyncio.TimeoutError):
            pass
        await asyncio.sleep(LOUD_EVERY_S)


async def garbage(port: Port) -> None:
    await sends(port, lambda: os.urandom(64 << 10), tls=False)


async def oversized(port: Port) -> None:
    """Announces as much as the format can say, and more than anybody may send."""
    frames = HTTP2 + b"\xff\xff\xff\x01\x04\x00\x00\x00\x01" + bytes(64 << 10)
    header = b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * (1 << 20)
    data_plane = b"lockstep\x04\0\0\0" + b"\xff" * 4096
    bodies = {CLIENT_HELLO: frames, HTTP1: header}
    await sends(port, lambda: bodies.get(port.slowly, data_plane), tls=port.tls)


ATTACKS: dict[str, Attack] = {"slow": slow, "slow inside": slow_inside, "garbage": garbage, "oversized": oversized}
