"""A TCP proxy that plays network death: cut, frozen or refused connections."""

import os
import queue
import selectors
import socket
import struct
import threading
import time
import weakref

from .servers import free_port

CHUNK = 65536  # bytes read at once
TICK = 0.02  # seconds for which a throttled client gets its bytes at once
COMMAND_TIMEOUT = 10  # seconds; a command that takes longer is a bug of the proxy

# Linger 0: close() sends RST instead of FIN.
RESET = struct.pack("ii", 1, 0)

_proxies = weakref.WeakSet()


class Proxy:
    """Forwards 127.0.0.1:port to a server until told otherwise.

        client ── port ── Proxy ── server
                           ├ cut      both ends of every connection see a reset, now
                           ├ freeze   nothing passes any more, neither data nor an end; thaw
                           ├ hold     new connections hang, those that are there go on; thaw
                           ├ throttle so many bytes a second pass to each client
                           └ refuse   no new connections; accept

    Every method may be called from any thread and has taken effect when it returns.
    """

    def __init__(self, port, host="127.0.0.1"):
        self.upstream = (host, port)
        self.host = "127.0.0.1"
        self.port = free_port()
        self._links = set()
        self._frozen = False
        self._held = False
        self._passed = 0  # bytes that clients have taken
        self._rate = None
        self._stopping = False
        self._listener = None
        _proxies.add(self)
        self._commands = queue.Queue()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._obey)
        self._listen()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.stop()

    @property
    def connections(self):
        """How many connections pass through it now."""
        return len(self._links)

    @property
    def passed(self):
        """How many bytes of the server's clients have taken: who does not read takes no more."""
        return self._passed

    def cut(self):
        """Reset every connection. New ones are welcome."""
        self._do(self._cut)

    def freeze(self):
        """Let nothing pass any more: connections stay open and silent, new ones too."""
        self._do(self._freeze)

    def hold(self):
        """Let new connections hang, while those that are there go on."""
        self._do(self._hold)

    def thaw(self):
        """Let everything pass again, first what was held back."""
        self._do(self._thaw)

    def throttle(self, rate):
        """Let this many bytes a second pass from the server to each client; None: all."""
        self._rate = rate
        self._do(self._thaw)

    def refuse(self):
        """Refuse new connections, as a host does where no server runs."""
        self._do(self._close_listener)

    def accept(self):
        """Take new connections again, on the same port."""
        self._do(self._listen)

    def stop(self):
        """Reset every connection and end; safe twice."""
        if self._thread.is_alive():
            self._do(self._stop)
            self._thread.join()

    # Below here everything happens in the proxy's own thread, so there is no lock.

    def _do(self, method):
        done = threading.Event()
        self._commands.put((method, done))
        self._wake.send(b"!")
        assert done.wait(COMMAND_TIMEOUT), "the proxy does not answer"

    def _run(self):
        tick = time.monotonic()
        while not self._stopping:
            ready = self._selector.select(None if self._rate is None else TICK)
            if self._rate is not None and time.monotonic() - tick >= TICK:
                tick = time.monotonic()
                for link in [*self._links]:
                    link.refill(int(self._rate * TICK))
            for key, events in ready:
                # One of the earlier ones may have closed it.
                if key.fileobj.fileno() != -1:
                    key.data(events)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _obey(self, events):
        self._woken.recv(1)
        method, done = self._commands.get()
        method()
        done.set()

    def _cut(self):
        for link in [*self._links]:
            link.reset()

    def _freeze(self):
        self._frozen = True
        self._watch_listener()
        for link in self._links:
            link.watch()

    def _hold(self):
        self._held = True
        self._watch_listener()

    def _thaw(self):
        self._frozen = self._held = False
        self._watch_listener()
        for link in [*self._links]:
            link.watch()

    def _listen(self):
        if self._listener is None:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((self.host, self.port))
            self._listener.listen(100)
            self._watch_listener()

    def _close_listener(self):
        if self._listener is not None:
            watch(self._selector, self._listener, 0, None)
            self._listener.close()
            self._listener = None

    def _watch_listener(self):
        if self._listener is not None:
            events = 0 if self._frozen or self._held else selectors.EVENT_READ
            watch(self._selector, self._listener, events, self._connect)

    def _connect(self, events):
        client = self._listener.accept()[0]
        try:
            server = socket.create_connection(self.upstream, timeout=5)
        except OSError:
            reset(client)
        else:
            self._links.add(Link(self, client, server))

    def _stop(self):
        self._close_listener()
        self._cut()
        self._stopping = True


class Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy, client, server):
        self._proxy = proxy
        self._lanes = (Lane(client, server), Lane(server, client))
        for lane in self._lanes:
            lane.source.setblocking(False)
            lane.source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.watch()

    def watch(self):
        """Wait for what can be done next, which is nothing in a frozen proxy."""
        there, back = self._lanes
        for lane, other in ((there, back), (back, there)):
            events = 0
            if not self._proxy._frozen:
                if lane.can_read():
                    events |= selectors.EVENT_READ
                if other.pending:
                    events |= selectors.EVENT_WRITE
            watch(self._proxy._selector, lane.source, events, self._move)

    def refill(self, count):
        """Let so many bytes pass to the client until the next call."""
        self._lanes[1].left = count
        self.watch()

    def reset(self):
        """Close both sockets with RST."""
        self._proxy._links.discard(self)
        for lane in self._lanes:
            watch(self._proxy._selector, lane.source, 0, None)
            reset(lane.source)

    def _move(self, events):
        # The proxy may have been frozen after select() returned.
        if self._proxy._frozen:
            return
        try:
            there, back = self._lanes
            there.move()
            self._proxy._passed += back.move()
        except OSError:
            self.reset()
        else:
            if all(lane.ended for lane in self._lanes):
                self.reset()
            else:
                self.watch()


class Lane:
    """One direction of a link."""

    def __init__(self, source, sink):
        self.source = source
        self.sink = sink
        self.pending = b""
        self.ended = False
        self.left = None  # bytes that may pass until the next tick of a throttled proxy

    def can_read(self):
        """Whether there is room: what is pending has to go first."""
        return not self.pending and not self.ended and self.left != 0

    def move(self):
        """Pass on what there is, without waiting; return how many bytes went."""
        sent = 0
        try:
            if self.can_read():
                self.pending = self.source.recv(min(CHUNK, self.left or CHUNK))
                if self.left is not None:
                    self.left -= len(self.pending)
                if not self.pending:
                    self.ended = True
                    self.sink.shutdown(socket.SHUT_WR)
            if self.pending:
                sent = self.sink.send(self.pending)
                self.pending = self.pending[sent:]
        except BlockingIOError:
            pass
        return sent


def _leave_to_the_parent():
    """Close in a forked child what would keep a connection alive that the parent cuts."""
    for proxy in [*_proxies]:
        if proxy._listener is not None:
            proxy._listener.close()
        for link in [*proxy._links]:
            for lane in link._lanes:
                lane.source.close()


os.register_at_fork(after_in_child=_leave_to_the_parent)


def watch(selector, sock, events, callback):
    """Make the selector wait for exactly these events on a socket, for none if 0."""
    known = selector.get_map().get(sock)
    if known:
        # Not modify(…, 0): epoll reports a hangup even to those who asked for nothing.
        selector.unregister(sock)
    if events:
        selector.register(sock, events, callback)


def reset(sock):
    """Close a socket with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
