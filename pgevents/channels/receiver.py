"""A function that listens to a channel until its ``stop()`` is called."""

import threading
from typing import Any, Callable, Optional


class ChannelListener:
    """What ``hub.listen_to()`` returns.

    Threads may call it at the same time; ``stop()`` may be called from any, and from inside
    the function.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        leave: Callable[["ChannelListener"], None],
        is_ready: Callable[[], bool],
    ) -> None:
        self._fn = fn
        self._leave = leave
        self._is_ready = is_ready
        self._stopped = False
        self._running = 0
        self._here = threading.local()
        self._changed = threading.Condition()
        #: What the function raised last; None if its last call returned.
        self.error: Optional[BaseException] = None
        self.__qualname__ = getattr(fn, "__qualname__", repr(fn))  # for messages

    @property
    def ready(self) -> bool:
        """Whether it receives what is published now: the hub listens, and it is not stopped."""
        return not self._stopped and self._is_ready()

    def stop(self, timeout: float = 10.0) -> bool:
        """Receive nothing any more; wait until no call runs; tell whether that was in time.

        A call from which this is called is not waited for. Safe twice.
        """
        with self._changed:
            first, self._stopped = not self._stopped, True
        if first:
            self._leave(self)
        own = getattr(self._here, "depth", 0)
        with self._changed:
            return self._changed.wait_for(lambda: self._running <= own, timeout)

    def __call__(self, message: Any) -> None:
        with self._changed:
            if self._stopped:
                return
            self._running += 1
        self._here.depth = getattr(self._here, "depth", 0) + 1
        try:
            self._fn(message)
            self.error = None
        except BaseException as error:
            self.error = error
            raise
        finally:
            self._here.depth -= 1
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def __repr__(self) -> str:
        return f"<ChannelListener {self.__qualname__}{' stopped' if self._stopped else ''}>"
