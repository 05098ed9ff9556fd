"""The scripts under a clock of the tests: the verbs of `ClusterIndex`, asked of a real server.

A call brings its moment along, as it does to the model. The one line of the scripts that asks the
server for its time reads a key instead.
"""

from frontdesk.cluster.valkey import verbs
from frontdesk.cluster.valkey.calls import answers_to, packed_caller, words_of
from frontdesk.cluster.valkey.keys import key
from frontdesk.cluster.valkey.lua import composed

ASKS_THE_TIME = "redis.call('TIME')"
TOLD_THE_TIME = "{0, redis.call('GET', P .. 'clock')}"


def told_the_time(script):
    """Return a script that is told the time."""
    assert script.text.count(ASKS_THE_TIME) == 1
    return composed(script.name, script.text.replace(ASKS_THE_TIME, TOLD_THE_TIME))


class ScriptedIndex:
    """Ask a server's scripts what the model is asked, through one blocking connection.

    `planted` is a fault for the tests of tests: a text of the scripts, and what stands for it.
    """

    def __init__(self, server, *, prefix="frontdesk", planted=None):
        self._prefix, self._scripts = prefix, {}
        self._planted, self.is_planted = planted, False
        import redis

        self._client = redis.Redis(unix_socket_path=server.socket)

    def close(self):
        self._client.close()

    def wipe(self):
        self._client.flushall()

    def raw(self, *words):
        """Send any command."""
        return self._client.execute_command(*words)

    def key(self, name):
        return key(self._prefix, name)

    def names(self, pattern):
        """Return what stands for the pattern's last star in the names of keys."""
        found = self._client.keys(self.key(pattern).replace("[", "?"))
        start = len(self.key(pattern)) - 1
        return {name.decode()[start:] for name in found}

    def hash(self, name):
        found = self._client.hgetall(self.key(name))
        return {field.decode(): value.decode() for field, value in found.items()}

    def members(self, name):
        return {one.decode() for one in self._client.zrange(self.key(name), 0, -1)}

    def ask(self, at, call):
        return call.outcome(self.ask_together(at, [call])[0])

    def ask_together(self, at, calls):
        """Ask several as one call; return the answer to each."""
        call = calls[0]
        name = call.script.name
        if name not in self._scripts:
            asked = call.script
            if self._planted is not None:
                self.is_planted |= self._planted[0] in asked.text
                asked = composed(name, asked.text.replace(*self._planted))
            self._scripts[name] = told_the_time(asked)
            self._client.script_load(self._scripts[name].text)
        meta = key(self._prefix, "meta")
        words = list(words_of(calls, meta, packed_caller(at.run_id, at.known)))
        words[1] = self._scripts[name].sha
        with self._client.pipeline(transaction=False) as both:
            both.set(key(self._prefix, "clock"), at.clock_us)
            both.execute_command(*words)
            reply = both.execute()[1]
        return answers_to(calls, reply)

    def join(self, at, node, *, terms, era=None):
        return self.ask(at, verbs.join(node, terms=terms, era=era))

    def renew(self, at, renewal):
        return self.ask(at, verbs.renew(renewal))

    def leave(self, at, incarnation):
        return self.ask(at, verbs.leave(incarnation))

    def bury(self, at, incarnation, *, proven):
        return self.ask(at, verbs.bury(incarnation, proven=proven))

    def nodes(self, at):
        return self.ask(at, verbs.nodes())

    def reserve(self, at, entry, *, limits, ttl_s):
        return self.ask(at, verbs.reserve(entry, limits=limits, ttl_s=ttl_s))

    def release(self, at, incarnation, session_id, *, token):
        return self.ask(at, verbs.release(incarnation, session_id, token=token))

    def create(self, at, entry, *, limits):
        return self.ask(at, verbs.create(entry, limits=limits))

    def restore(self, at, incarnation, entries, *, complete):
        return self.ask(at, verbs.restore(incarnation, entries, complete=complete))

    def update(self, at, incarnation, session_id, *, fence, blueprint=..., model=...):
        told = {"fence": fence, "blueprint": blueprint, "model": model}
        return self.ask(at, verbs.update(incarnation, session_id, **told))

    def end(self, at, incarnation, ends):
        return self.ask(at, verbs.end(incarnation, ends))

    def read(self, at, session_id):
        return self.ask(at, verbs.read(session_id))

    def list(self, at, selection, *, after=0, limit=1000):
        return self.ask(at, verbs.list_entries(selection, after=after, limit=limit))

    def count(self, at, selection):
        return self.ask(at, verbs.count(selection))

    def follow(self, at, after, *, era, limit=1000):
        return self.ask(at, verbs.follow(after, era=era, limit=limit))

    def take(self, at, counted, *, limit, window_s):
        return self.ask(at, verbs.take(counted, limit=limit, window_s=window_s))

    def claim(self, at, incarnation, slot, *, digest, ttl_s):
        return self.ask(at, verbs.claim(incarnation, slot, digest=digest, ttl_s=ttl_s))

    def publish(self, at, topic, name, totals):
        return self.ask(at, verbs.publish(topic, name, totals))

    def totals(self, at, topic):
        return self.ask(at, verbs.totals(topic))
