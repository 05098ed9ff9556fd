"""Nodes as processes, for the tests of faults: each can be killed, stopped, cut off and asked.

`Nodes` starts them on one engine, each through a proxy of its own if need be, keeps their history
in one file and writes into it what the test itself does to them.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from cluster.checker import findings
from cluster.history import (
    Cut,
    Dumped,
    EngineLost,
    Healed,
    HistoryFile,
    Listed,
    NodeGone,
    Paused,
    Renewed,
    Resumed,
    WatchBegan,
    WatchTold,
    in_words,
    read_history,
)
from cluster.history_facts import Bounds
from support.fault_proxy import FaultProxy
from support.waiting import eventually

PATIENCE_S = 60
"""So long a test waits for what has to happen, on a machine that does much else."""

TERMS = {"lease_s": 2.0, "isolation_grace_s": 1.0, "kill_grace_s": 0.5, "stalled_exit_s": 20.0}
"""Short leases: suspect after 2 s, dead after 6.5 s."""

HOLD_S = 4.5
BOUNDS = Bounds(lease_s=TERMS["lease_s"], hold_s=HOLD_S, end_s=10.0, rejoin_s=15.0, recovery_s=30.0)
"""What the checker allows: leases are exact, what a loaded machine does in between is not."""

TESTS = Path(__file__).parents[1]


class Refused(Exception):
    """A node's answer to a command: an error, by its name."""

    def __init__(self, error, text):
        super().__init__(f"{error}: {text}")
        self.error = error


class Nodes:
    """The nodes of a test, over one engine. A context manager; kills what still runs."""

    def __init__(self, engine, directory, *, terms=None):
        self.engine, self.terms = engine, {**TERMS, **(terms or {})}
        self.path = directory / "history.jsonl"
        self.log = directory / "nodes.log"
        self.history = HistoryFile(self.path)
        self.all = []
        self._stack = ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.all:
            node.end()
        self._stack.close()
        self.history.close()

    def start(self, name, *, proxied=False, wait=True, **terms):
        """Start a node, through a proxy of its own if it is to be cut off; return it, joined."""
        proxy = None
        if proxied:
            proxy = self._stack.enter_context(FaultProxy(self.engine.address))
        node = Node(self, name, proxy, {**self.terms, **terms})
        self.all.append(node)
        if wait:
            node.await_event("joined")
            node.recovered()
        return node

    def start_all(self, *names, **options):
        """Start several at once."""
        nodes = [self.start(name, wait=False, **options) for name in names]
        for node in nodes:
            node.await_event("joined")
            node.recovered()
        return nodes

    def write(self, kind, /, **facts):
        """Write what the test did into the history."""
        self.history.write(kind(at=time.monotonic(), **facts))

    def engine_lost(self, lose):
        """Let the engine lose something by a function, and say so."""
        lose()
        self.write(EngineLost)

    @property
    def living(self):
        return [node for node in self.all if node.alive]

    def settled(self, within_s=PATIENCE_S):
        """Wait until all agree on what there is; write that into the history, and return it.

        The truth is where the agents are: what a list has and no node, or a node and no list, is
        amiss. Counts, the lists by tenant and key, and what watches have told are compared too.
        """
        views = Views(self)
        try:
            eventually(views.agree, within_s=within_s)
        except AssertionError:
            raise AssertionError(f"the nodes do not agree: {views}\n{self.told()}") from None
        self.write(Dumped, **views.dump, settled=True)
        return views.truth

    def last_list(self, node):
        """Let a node list everything; return the entries as history has them."""
        node.ask("list")
        lists = [one for one in self.events() if isinstance(one, Listed) and one.node == node.name]
        return lists[-1].entries

    def events(self):
        """Return the history so far."""
        return read_history(self.path)

    def check(self):
        """Fail with what is wrong with the history, and what led to it."""
        events = self.events()
        assert events, "nothing happened"
        wrong = findings(events, BOUNDS)
        around = [in_words(one)[:200] for one in events if wrong and one.at <= wrong[0].at + 0.001]
        assert not wrong, "\n".join([*map(str, wrong[:5]), "", *around[-20:]])

    def told(self):
        """What the nodes wrote to their log: why one of them failed."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]


class Views:
    """What there is, as each of the nodes sees it, at a moment when nobody changes anything."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.truth, self.amiss, self.dump = {}, "", {}

    def agree(self):
        """Look; tell whether all of it is the same."""
        try:
            self.amiss = self._amiss()
        except Refused as refusal:
            self.amiss = str(refusal)
        return not self.amiss

    def _amiss(self):
        """Return where somebody sees something else than the agents, "" where nobody does."""
        looked_at, living = time.monotonic(), self.nodes.living
        self.truth = {
            session: [fence, node.name]
            for node in living
            for session, fence in node.ask("local")["sessions"].items()
        }
        for node in living:
            listed = node.ask("list")
            if listed["partial"] or listed["sessions"] != self.truth:
                return f"{node.name} lists {listed}, there is {self.truth}"
            if (count := node.ask("count")) != len(self.truth):
                return f"{node.name} counts {count} of {len(self.truth)}"
        if unmatched := self._unmatched(looked_at):
            return f"no renewal of {unmatched} has matched since"
        fences = {session: fence for session, (fence, _) in self.truth.items()}
        events = self.nodes.events()
        asked_at = time.monotonic()
        self.dump = {"asked_at": asked_at, **self._dumped(living[0])}
        for watcher, told in self._watched(events).items():
            if told != fences:
                return f"{watcher} has told {told}, there is {fences}"
        return ""

    def _unmatched(self, since):
        """Return the nodes whose last renewal does not match, of those asked for since then.

        Earlier ones say nothing: what the engine had done may not have been answered yet.
        """
        names = {node.name for node in self.nodes.living}

        def last():
            asked = [
                e for e in self.nodes.events() if isinstance(e, Renewed) and e.asked_at > since
            ]
            renewals = {one.node: one.matches for one in asked}
            return renewals if names <= renewals.keys() else None

        renewals = eventually(last, within_s=PATIENCE_S)
        return [name for name in names if not renewals[name]]

    def _dumped(self, node):
        """Return entries, indexes and counts, by one node."""
        entries = self.nodes.last_list(node)
        dump = {"entries": entries, "counts": {"all": node.ask("count")}}
        for kind, field in (("tenant", "tenant_id"), ("key", "api_key")):
            index = dump[f"{kind}s"] = {}
            for name in {getattr(one, field) for one in entries} - {None}:
                index[name] = tuple(node.ask("list", **{kind: name})["sessions"])
                dump["counts"][f"{kind}:{name}"] = node.ask("count", **{kind: name})
        by_node = dump["nodes"] = {}
        for one in entries:
            by_node.setdefault(one.node, []).append(one.session_id)
            dump["counts"][f"node:{one.node}"] = len(by_node[one.node])
        return dump

    def _watched(self, events):
        """Return what every watch of a living node has told by now: fence by id."""
        told, living = {}, {node.name for node in self.nodes.living}
        for event in events:
            if isinstance(event, WatchBegan):
                told[event.watcher] = {one.session_id: one.fence for one in event.entries}
            elif isinstance(event, WatchTold) and event.kind == "created":
                told[event.watcher][event.session_id] = event.fence
            elif isinstance(event, WatchTold) and event.kind == "ended":
                told[event.watcher].pop(event.session_id, None)
        return {name: each for name, each in told.items() if name in living}

    def __str__(self):
        return self.amiss


class Node:
    """One node's process: commands to it, and what it says."""

    def __init__(self, nodes, name, proxy, terms):
        self.nodes, self.name, self.proxy = nodes, name, proxy
        address = nodes.engine.address if proxy is None else proxy.address
        settings = {
            "name": name,
            "engine": nodes.engine.url_at(address),
            "history": str(nodes.path),
            "terms": terms,
        }
        with nodes.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "support.programs.cluster_node", json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(TESTS)},
            )
        self.events = []
        self._answers = {}
        self._asked = 0
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process.poll() is None

    def _read(self):
        for line in self.process.stdout:
            told = json.loads(line)
            if "n" in told:
                self._answers[told["n"]].put(told)
            else:
                self.events.append(told)
        for waiting in list(self._answers.values()):
            waiting.put({"error": "Gone", "text": f"node {self.name} has ended"})

    # -- commands --------------------------------------------------------------------------------

    def send(self, do, **arguments):
        """Give a command; return a function that waits for its answer."""
        with self._lock:
            self._asked += 1
            number = self._asked
            answer = self._answers[number] = queue.SimpleQueue()
            line = json.dumps({"n": number, "do": do, **arguments}) + "\n"
            try:
                self.process.stdin.write(line.encode())
                self.process.stdin.flush()
            except OSError:
                answer.put({"error": "Gone", "text": f"node {self.name} has ended"})

        def result(within_s=PATIENCE_S):
            told = answer.get(timeout=within_s)
            self._answers.pop(number, None)
            if "error" in told:
                raise Refused(told["error"], told["text"])
            return told["value"]

        return result

    def ask(self, do, **arguments):
        """Give a command and return the answer; an error raises `Refused`."""
        return self.send(do, **arguments)()

    def refusal(self, do, **arguments):
        """Give a command; return the name of the error it ends with, "" if it is carried out."""
        try:
            self.ask(do, **arguments)
        except Refused as refusal:
            return refusal.error
        return ""

    def create(self, *sessions, **options):
        """Create sessions, side by side; return their fences."""
        answers = [self.send("create", session=session, **options) for session in sessions]
        return [answer() for answer in answers]

    def await_event(self, kind, within_s=PATIENCE_S):
        """Wait until it has told of something; return it."""

        def found():
            assert self.alive or any(one["event"] == kind for one in self.events), (
                f"{self.name} has ended\n{self.nodes.told()}"
            )
            return next((one for one in self.events if one["event"] == kind), None)

        return eventually(found, within_s=within_s)

    def recovered(self):
        """Wait until the engine knows what there is: an empty one may have lost something."""
        eventually(lambda: not self.ask("list")["partial"], within_s=PATIENCE_S)

    # -- faults ----------------------------------------------------------------------------------

    def kill(self):
        """End it with SIGKILL; when this returns it is no more."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        self.gone()

    def gone(self, how="killed"):
        """Write that its process is no more."""
        self.nodes.write(NodeGone, node=self.name, how=how)

    def stop(self):
        """Let it stand still."""
        self.nodes.write(Paused, node=self.name)
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)
        self.nodes.write(Resumed, node=self.name)

    def leave(self):
        """Let it leave the cluster and end."""
        self.send("leave")
        self.process.wait(PATIENCE_S)
        self.gone("left")

    def cut(self, fault, *arguments, **options):
        """Cut it off from the engine by a fault of its proxy: `cut`, `stall`, `refuse`…"""
        self.nodes.write(Cut, node=self.name, whom="engine")
        getattr(self.proxy, fault)(*arguments, **options)

    def heal(self):
        """Let it reach the engine again."""
        self.proxy.heal()
        self.nodes.write(Healed, node=self.name, whom="engine")

    def end(self):
        """End it at the end of the test."""
        if self.alive:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()
