"""FakeAgent: an agent whose end a test decides, in two steps if it wants to.

Part of the public test kit. It follows the `add_exit_callback` protocol of `frontdesk.monitors`,
so any store takes it as it is. It knows nothing of stores and sessions.
"""

from __future__ import annotations

from collections.abc import Callable

from frontdesk.lock import InterruptibleLock
from frontdesk.records import ExitReason

ExitCallback = Callable[[ExitReason], None]


class FakeAgent:
    """Live until `end` is called. Usable from any thread, with or without an event loop.

    `end` is `die` and `notify` in one. Between the two the agent is finished while nobody was
    called yet: the moment that every asyncio task goes through, here for as long as a test likes.
    With `dead=True` it is over from the start.

    Examples:
        >>> agent, ends = FakeAgent(), []
        >>> _ = agent.add_exit_callback(ends.append)
        >>> agent.end(ExitReason.exited(3))
        >>> [str(reason) for reason in ends], agent.alive
        (['exited: 3'], False)
    """

    __slots__ = ("__weakref__", "_callbacks", "_lock", "_reason", "name")

    def __init__(self, name: str = "fake", *, dead: bool = False) -> None:
        self.name: str = name
        self._reason: ExitReason | None = ExitReason.of("normal") if dead else None
        self._callbacks: dict[object, ExitCallback] = {}
        # Recursive: a signal handler or finalizer may come in while it is held.
        self._lock = InterruptibleLock()

    def __repr__(self) -> str:
        return f"<FakeAgent {self.name!r} {'alive' if self.alive else self._reason}>"

    @property
    def alive(self) -> bool:
        """Say whether `die` was not called yet."""
        return self._reason is None

    def exit_reason(self) -> ExitReason | None:
        """Return how it ended, notified or not; None while it lives."""
        return self._reason

    @property
    def watched_by(self) -> int:
        """Return how many callbacks wait for the end: 0 once every monitor was released."""
        return len(self._callbacks)

    def add_exit_callback(self, callback: ExitCallback) -> Callable[[], None]:
        """Call `callback` with the reason at the end, at once if it is dead already.

        Returns what takes the callback back.
        """
        token = object()
        with self._lock:
            reason = self._reason
            if reason is None:
                self._callbacks[token] = callback
        if reason is not None:
            callback(reason)

        def cancel() -> None:
            with self._lock:
                self._callbacks.pop(token, None)

        return cancel

    def die(self, reason: ExitReason | None = None) -> None:
        """Finish, as `normal` unless a reason is given, and notify nobody yet."""
        with self._lock:
            if self._reason is None:
                self._reason = reason or ExitReason.of("normal")

    def notify(self) -> None:
        """Call every callback that is still armed, each once, in this thread.

        One that raises keeps no other from being called; the errors come out in the end, as one
        `ExceptionGroup`.
        """
        reason = self._reason
        if reason is None:
            raise RuntimeError(f"{self!r} has not died: there is nothing to notify of")
        errors = []
        while self._callbacks:  # one after the other, also such as are added meanwhile
            with self._lock:
                # A list first: a signal handler may disarm one between two instructions.
                token = next(iter(list(self._callbacks)), None)
                callback = self._callbacks.pop(token, None)
            try:
                if callback is not None:
                    callback(reason)
            except Exception as error:  # noqa: BLE001 - whatever it raises is the caller's to see
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"exit callbacks of {self!r} raised", errors)

    def end(self, reason: ExitReason | None = None) -> None:
        """Finish and notify: `die`, then `notify`."""
        self.die(reason)
        self.notify()
