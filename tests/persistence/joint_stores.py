"""A `JointConversations` in memory, which a test can hold up and have fail, and its workers."""

import threading
from contextlib import contextmanager

from frontdesk.persistence.conversation_server import ConversationServer
from frontdesk.persistence.conversations import Applied
from frontdesk.persistence.operations import ConversationOpened, FramesAppended
from frontdesk.persistence.remote_conversations import RemoteConversations

WITHIN_S = 60


def opened(number, **changes):
    given = {
        "tenant_id": "acme",
        "session_id": f"s{number}",
        "blueprint": "b",
        "model": "m",
        "api_key": None,
        "created_at_ms": 1,
        "fence": number,
        "options": b"{}",
    }
    return ConversationOpened(number=number, **(given | changes))


def frame(number, text=b"x", *, index=1):
    return FramesAppended(number=number, fence=number, first_index=index, frames=(text,))


class JointStore:
    """Whose each conversation is, and what was carried out of it, in order."""

    def __init__(self):
        self.owners = {}
        self.done = []
        self.transactions = []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.begun = threading.Semaphore(0)
        self.fault = None
        self.broken_batch = None
        self.results = {}

    def apply_together(self, batches):
        self.begun.release()
        assert self.goes_on.wait(WITHIN_S)
        if self.fault is not None:
            raise self.fault
        if any(each.operations == self.broken_batch for each in batches):
            raise ValueError("it cannot be carried out")
        self.transactions.append([each.owner for each in batches])
        return [self._applied(each) for each in batches]

    def _applied(self, batch):
        lost = set()
        for operation in batch.operations:
            if self.owners.setdefault(operation.number, batch.owner) == batch.owner:
                self.done.append((batch.owner, operation))
            else:
                lost.add(operation.number)
        return Applied(frozenset(lost))

    def owned_by(self, owner, *, lives):
        return OwnersView(self, owner, lives)

    def close(self):
        pass


class OwnersView:
    """What one owner sees of it: reads answer with what the test has put into `results`."""

    def __init__(self, store, owner, lives):
        self._store, self._owner, self._lives = store, owner, lives

    def claim(self, number=None, *, dead=None):
        owners = self._store.owners
        asked = owners if number is None else [number]
        claimed = [each for each in asked if not self._lives(owners[each])]
        owners.update(dict.fromkeys(claimed, self._owner))
        return claimed

    def __getattr__(self, name):
        def read(*args, **kwargs):
            assert not args  # the wire names them all
            result = self._store.results[name]
            if isinstance(result, Exception):
                raise result
            return result(**kwargs) if callable(result) else result

        return read


class ServedStore:
    """A store that is served, and its workers."""

    def __init__(self, path, store):
        self.path, self.store = path, store
        self.strangers = set()
        self.broken = []
        self._workers = []

    def __enter__(self):
        self.server = ConversationServer(
            self.path,
            self.store,
            is_worker=lambda pid: pid not in self.strangers,
            on_broken=self.broken.append,
        )
        self.server.__enter__()
        return self

    def __exit__(self, *exc_info):
        for each in self._workers:
            each.close()
        self.server.__exit__(*exc_info)

    def worker(self, owner, place=None):
        """Return the store as a worker has it; all are of this process."""
        worker = RemoteConversations(self.path, owner=owner, place=place or owner)
        self._workers.append(worker)
        return worker


class Call(threading.Thread):
    """A call in a thread; `result` waits for what came of it."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self._call, self._outcome = (function, args), None
        self.start()

    def run(self):
        function, args = self._call
        try:
            self._outcome = function(*args), None
        except Exception as error:
            self._outcome = None, error

    def result(self):
        self.join(WITHIN_S)
        assert self._outcome is not None
        result, error = self._outcome
        if error is not None:
            raise error
        return result


@contextmanager
def held_up(store):
    """Have the store begin its transactions, and end none before the block has."""
    store.goes_on.clear()
    try:
        yield
    finally:
        store.goes_on.set()
