"""A reader of a feed, as a client has it: what it holds after each event, as the contract says."""

from contextlib import contextmanager

from gateway.running import parsed


class Held:
    """What a client holds: rows by their name, ends as they came, and the last position."""

    def __init__(self):
        self.rows, self.ends, self.left, self.nodes, self.minutes = {}, [], [], None, {}
        self.position, self.counted, self.snapshots, self.frames = None, None, 0, []
        self._pending = {}

    def take(self, position, name, said):
        """Take in an event."""
        self.frames.append((name, said))
        if name == "snapshot":
            self._take_page(said)
        elif name == "rows":
            self.rows.update((key_of(row), row) for row in said["changed"])
            for each in said["left"]:
                self.left.append(key_of(each))
                self.rows.pop(key_of(each), None)
            for each in said["gone"]:
                self.ends.append(each)
                if self.rows.get(key_of(each), {}).get("fence") == each["fence"]:
                    del self.rows[key_of(each)]
        elif name == "too_many":
            self.rows, self.counted = {}, said
        elif name == "nodes":
            self.nodes = said
        elif name == "hour":
            self.minutes.update((each["at"], each) for each in said["minutes"])
        if position is not None:
            self.position = position

    def _take_page(self, said):
        assert len(said["rows"]) <= 500
        if said["first"]:
            self._pending = {}
        self._pending.update((key_of(row), row) for row in said["rows"])
        if said["last"]:
            assert len(self._pending) == said["total"]
            self.rows, self.counted, self.snapshots = self._pending, None, self.snapshots + 1

    @property
    def ids(self):
        return {session_id for _, session_id in self.rows}


def key_of(row):
    return row["tenantId"], row["sessionId"]


class Feed:
    """An open feed, and what its client holds."""

    def __init__(self, response, held):
        self.response, self.held = response, held
        self._frames = parsed(
            line for line in response.iter_lines() if not line.startswith("retry:")
        )

    def next(self):
        """Take in the next event and return its name."""
        position, name, said = next(self._frames)
        self.held.take(position, name, said)
        return name

    def until_it_ends(self):
        """Take in what comes until the gateway ends the stream."""
        for event in self._frames:
            self.held.take(*event)

    def until(self, ready):
        """Take in events until something is so; the feed's signs of life bound the wait."""
        signs = 0
        while not ready(self.held):
            signs += self.next() == "now"
            assert signs < 12, (sorted(self.held.rows), self.held.frames[-6:])
        return self.held


@contextmanager
def feed(client, path="/v1/feed", *, held=None, headers=None, **query):
    """Open a feed; `held` is what its client holds already."""
    with client.stream("GET", path, params=query, headers=headers or {}) as response:
        assert response.status_code == 200, response.read()
        yield Feed(response, held or Held())


def snapshot_of(held):
    """Whether everything has come at least once."""
    return held.snapshots > 0
