"""A TCP connection to a service that a test can break and mend, for processes that know only its address."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

#: Closes a connection with a reset, as a host that has lost its power does when it is back.
RESET = struct.pack("ii", 1, 0)


class Line:
    """Listens on a port of its own and hands all bytes to and fro; while it is broken, connections are refused."""

    def __init__(self, host: str, port: int) -> None:
        self.target = host, port
        self.port = 0
        self._server: socket.socket | None = None
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()

    def mend(self) -> None:
        """Listen, on the same port as before."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def break_off(self) -> None:
        """Reset all connections and take no more."""
        if self._server is not None:
            # A thread that waits in accept() keeps the port open beyond close().
            with contextlib.suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        with self._lock:
            ends, self._ends = self._ends, set()
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                near, _ = server.accept()
                far = socket.create_connection(self.target)
            except OSError:
                return
            with self._lock:
                self._ends |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def line(host: str, port: int) -> Iterator[Line]:
    """A line that is whole at first."""
    one = Line(host, port)
    one.mend()
    try:
        yield one
    finally:
        one.break_off()
