"""Sockets with TLS, which the poller reads and the flusher writes like plain sockets.

    sock = secure(accepted, context)        # returns immediately
    await sock.handshake()                  # under the caller's time limit
    transport = transports.attach(sock, tell)

A `TlsSocket` keeps the contract of a non-blocking `socket.socket`: `recv` and `send` raise `BlockingIOError` while they
would have to wait, and `OSError` if TLS or the connection has failed. So no other module has a second way for TLS.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import trio

__all__ = ["TlsSocket", "TlsSocketStream", "secure"]

# The most records that one read decrypts. A read of 32 small records takes about 50 µs.
_MAX_RECORDS = 32
_WAIT = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


def _would_block() -> BlockingIOError:
    return BlockingIOError(errno.EAGAIN, "the TLS socket would block")


class TlsSocket(ssl.SSLSocket):
    """A connected, non-blocking socket with TLS, on the side of the server. Use `secure`.

    Complete `handshake` before you read or write. After the handshake, neither side negotiates again, because TLS 1.3
    has no renegotiation and OpenSSL refuses the one of TLS 1.2 to clients. So a read waits only for data of the peer,
    and a write waits only for room in the kernel.
    """

    async def handshake(self) -> None:
        """Shake hands with the client. There is no time limit. A second call returns immediately.

        Raises:
            OSError: the handshake failed, or the client has gone.
        """
        while True:
            try:
                self.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(self.fileno())
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(self.fileno())
            else:
                return

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return the data of the records that have arrived, at most `buflen` bytes. `b""` is the end.

        A call of OpenSSL returns one record, so this reads several, and a client that sends many small messages at once
        costs one turn of the poller, as without TLS. The number of records is bounded, because a client may send
        thousands of records of one byte. The kernel reports the socket again for the others.
        """
        try:
            data = super().recv(buflen, flags)
        except _WAIT:
            raise _would_block() from None
        if not data:
            return data
        records = [data]
        left = buflen - len(data)
        try:
            while data and left > 0 and len(records) < _MAX_RECORDS:
                data = super().recv(left, flags)
                records.append(data)
                left -= len(data)
        except OSError:
            # No further record has arrived. If the connection has failed instead, the next call raises that error.
            pass
        return records[0] if len(records) == 1 else b"".join(records)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send as much as the kernel takes, and return the number of bytes.

        If less than all was sent, the next call must begin with the bytes that are left, because OpenSSL may have
        encrypted the first of them already.
        """
        size = len(data)
        sent = 0
        try:
            sent = super().send(data, flags)
            # A call of OpenSSL writes at most one record, of 16 KiB.
            while sent < size:
                sent += super().send(memoryview(data)[sent:], flags)
        except _WAIT:
            if not sent:
                raise _would_block() from None
        return sent

    def shutdown(self, how: int) -> None:
        """Send the closing alert of TLS, and shut the socket. Without the alert, the peer would assume lost data."""
        try:
            # This sends the alert, and raises because the alert of the peer has not arrived.
            self.unwrap()
        except (OSError, ValueError):
            # The peer has gone or has no room for the alert. The end of TCP must be enough for it.
            pass
        super().shutdown(how)


def secure(sock: socket.socket, context: ssl.SSLContext) -> TlsSocket:
    """Return `sock` with TLS. This does not wait. It takes the place of `sock`, which has no file descriptor any more.

        >>> async def example(accepted: socket.socket, context: ssl.SSLContext) -> None:
        ...     sock = secure(accepted, context)
        ...     with trio.fail_after(10):
        ...         await sock.handshake()

    Args:
        sock: an accepted, non-blocking socket.
        context: the context of a server with its certificate. The function sets its `sslsocket_class`.

    Raises:
        OSError: the peer has gone, or sent data and went.
    """
    context.sslsocket_class = TlsSocket
    secured = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
    assert isinstance(secured, TlsSocket)
    return secured


class TlsSocketStream(trio.abc.HalfCloseableStream):
    """A Trio stream over a `TlsSocket`, for the HTTP server. `aclose` closes the socket.

    Args:
        sock: a socket after its handshake.
    """

    def __init__(self, sock: TlsSocket) -> None:
        self.socket = sock

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes of the peer."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.socket.recv(max_bytes or 65536)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.socket)
            except OSError as error:
                raise self._problem(error) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all bytes."""
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.socket)
            except OSError as error:
                raise self._problem(error) from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel has room."""
        await trio.lowlevel.wait_writable(self.socket)

    async def send_eof(self) -> None:
        """End the sending side."""
        await trio.lowlevel.checkpoint()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._problem(error) from error

    async def aclose(self) -> None:
        """Send the closing alert, and close the socket."""
        if self.socket.fileno() != -1:
            trio.lowlevel.notify_closing(self.socket)
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                # The peer has gone.
                pass
            self.socket.close()
        await trio.lowlevel.checkpoint()

    def _problem(self, error: OSError) -> Exception:
        if self.socket.fileno() == -1:
            return trio.ClosedResourceError("this stream was closed")
        return trio.BrokenResourceError(f"the connection broke: {error}")
