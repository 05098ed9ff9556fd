"""Whatever is written in whatever order, a store answers as dictionaries do."""

import random
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from frontdesk.persistence import operations as ops
from frontdesk.persistence.stored import ListQuery
from persistence.conversation_model import ENDS, ConversationModel
from support.persistence import opened, store_in

STATES = ("live", "dormant", "ended")
EVERYTHING = {"after": 0, "limit": 1000, "max_bytes": 10**9}
SLOT_UNTIL = 50

REQUESTS = ("r1", "r2")
POSITIONS = (1, 2, 3)


def text_by(chance):
    """Return some text, which now and then is so long that it becomes a segment."""
    return chance.choice([b"", b"a", b"text", b"long " * 5000 * chance.randrange(1, 4)])


def operation_by(chance):
    """Return any operation; events are placed later, after those that there are then."""
    kind = chance.choice([*KINDS, *OFTEN])
    number = chance.choice([1, 1, 1, 1, 2, 2, 3])
    values = {name: make(chance) for name, make in KINDS[kind].items()}
    if kind is ops.ConversationOpened:
        return opened(number, **values)
    if kind is ops.TenantErased:
        return ops.TenantErased(number=0, tenant_id="u")
    return kind(number=max(number, 2) if kind is ops.ConversationErased else number, **values)


def any_of(*values):
    return lambda chance: chance.choice(values)


requests, times, indexes = any_of(*REQUESTS), any_of(*range(1, 10)), any_of(*range(1, 21))

KINDS = {
    ops.ConversationOpened: {"tenant_id": any_of("t", "t", "u")},
    ops.EpochBegun: {
        "fence": any_of(9000, 9001, 9002),
        "first_index": indexes,
        "at_ms": times,
    },
    ops.OptionsChanged: {"model": any_of(None, "n"), "options": any_of(None, b"", b"options")},
    ops.TurnQueued: {
        "request_id": requests,
        "text": any_of("", "text"),
        "api_key": any_of(None, "k"),
        "at_ms": times,
    },
    ops.TurnBegun: {"request_id": requests, "first_index": indexes, "at_ms": times},
    ops.FramesAppended: {
        "fence": any_of(0),
        "first_index": any_of(0, 0, 1, 2, 3),
        "frames": lambda chance: tuple(text_by(chance) for _ in range(chance.randrange(1, 5))),
    },
    ops.MessageAdded: {"position": any_of(1, 2, 3, 4), "message": text_by},
    ops.MemoryAdded: {
        "position": any_of(*POSITIONS),
        "request_id": requests,
        "kind": any_of("a", "b"),
        "version": any_of(1, 2),
        "content": text_by,
        "replaces": any_of(True, False),
    },
    ops.TurnFinished: {
        "request_id": requests,
        "state": any_of(*ENDS),
        "last_index": indexes,
        "end": text_by,
        "usage": any_of(b"u"),
        "totals": any_of(b"1", b"2"),
        "at_ms": times,
    },
    ops.TurnCounted: {
        "request_id": requests,
        "usage": any_of(b"u"),
        "totals": any_of(b"1", b"2"),
    },
    ops.TurnSuspended: {
        "request_id": requests,
        "kind": any_of("k"),
        "version": any_of(1),
        "content": text_by,
    },
    ops.TurnResumed: {"request_id": requests},
    ops.RequestAsked: {
        "request_id": requests,
        "reference": any_of("x", "y"),
        "kind": any_of("approval"),
        "event": text_by,
    },
    ops.RequestAnswered: {"reference": any_of("x", "y"), "answer": any_of(None, b"yes")},
    ops.ConversationLeft: {"at_ms": times},
    ops.ConversationEnded: {"reason": text_by, "at_ms": times},
    ops.ConversationErased: {},
    ops.TenantErased: {},
    ops.FramesDropped: {"before_index": indexes},
    ops.CheckpointMade: {
        "name": any_of("c", "d"),
        "request_id": requests,
        "position": any_of(*POSITIONS),
        "at_ms": times,
    },
    ops.CheckpointRemoved: {"name": any_of("c", "d")},
    ops.AnswerStored: {
        "slot": any_of("s", "t"),
        "digest": any_of(b"d"),
        "answer": text_by,
        "until_ms": any_of(SLOT_UNTIL),
    },
}
OFTEN = (
    *(ops.FramesAppended, ops.EpochBegun, ops.TurnQueued, ops.RequestAsked, ops.MemoryAdded) * 2,
    ops.CheckpointMade,
)


class StoredConversations(RuleBasedStateMachine):
    """A store in a directory of its own, beside the model."""

    @initialize(encrypt=st.booleans(), sync=st.sampled_from(["always", "edges"]))
    def start(self, encrypt, sync):
        within = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.directory = Path(tempfile.mkdtemp(dir=within))
        self.options = {"encrypt": encrypt, "sync": sync, "erase_within_s": 0}
        self.model = ConversationModel()
        self._open()
        self.batch = [opened(number) for number in (1, 2)]
        self.write(self.batch)

    def _open(self):
        self.opened = store_in(self.directory, **self.options)
        self.store = self.opened.__enter__()

    def teardown(self):
        self.opened.__exit__(None, None, None)
        shutil.rmtree(self.directory)

    @rule(seed=st.integers(0, 2**32), size=st.integers(1, 12))
    def write_operations(self, seed, size):
        chance = random.Random(seed)
        self.write([operation_by(chance) for _ in range(size)])

    def write(self, batch):
        self.batch = [self._placed(each) for each in batch]
        assert self.store.apply(self.batch).lost == self.model.apply(self.batch)

    @rule()
    def write_the_same_again(self):
        # In an order that makes sense it changes nothing; in any other the model says what it does.
        self.store.apply(self.batch)
        self.model.apply(self.batch)

    @rule()
    def restart(self):
        self.opened.__exit__(None, None, None)
        self._open()

    def _placed(self, each):
        """Put events after those that there are, or some of them over those; drop no others."""
        known = self.model.conversations.get(each.number)
        last = known.frames[-1][0] if known and known.frames else 0
        if isinstance(each, ops.FramesDropped):
            return msgspec.structs.replace(each, before_index=min(each.before_index, last + 1))
        if not isinstance(each, ops.FramesAppended):
            return each
        first = max(1, last + 1 - each.first_index)
        fence = known.epochs[-1][0] if known else 1
        return msgspec.structs.replace(each, fence=fence, first_index=first)

    @invariant()
    def every_answer_is_the_models(self):
        for number in (1, 2, 3):
            modelled = self.model.conversations.get(number)
            if modelled is None:
                assert self.store.find("t", f"s{number}") is None
                assert self.store.turns(number) == []
                assert self.store.frames(number, **EVERYTHING) == []
            else:
                self._compare(number, modelled)
        self._compare_lists()
        for slot in ("s", "t"):
            found = self.store.answer(slot, now_ms=SLOT_UNTIL - 1)
            stored = self.model.answers.get(slot)
            assert (found and (found.digest, found.answer)) == (
                stored and (stored.digest, stored.answer)
            )
            assert self.store.answer(slot, now_ms=SLOT_UNTIL) is None

    def _compare(self, number, modelled):
        tenant_id = modelled.opened.tenant_id
        found = self.store.find(tenant_id, f"s{number}")
        assert found == self.store.find(tenant_id, f"s{number}", fence=modelled.opened.fence)
        assert (found.state, found.ended, found.options) == (
            modelled.state,
            modelled.ended,
            modelled.options,
        )
        assert (found.model, found.totals) == (modelled.model, modelled.totals)
        assert found.last_activity_ms == modelled.active_ms
        assert [(each.fence, each.first_index) for each in found.epochs] == modelled.epochs
        last = modelled.frames[-1][0] if modelled.frames else 0
        assert (found.oldest_index, found.last_index) == (modelled.oldest, last)
        assert found.last_position == max(modelled.messages, default=0)
        assert found.waiting == modelled.waiting
        assert found.unreadable is None
        self._compare_contents(number, modelled)
        if not any((modelled.frames, modelled.messages, modelled.turns, modelled.memories)):
            assert found.held_bytes < 200

    def _compare_contents(self, number, modelled):
        held = [each for each in modelled.frames if each[0] >= modelled.oldest]
        frames = self.store.frames(number, **EVERYTHING)
        assert [(each.index, each.fence, each.frame) for each in frames] == held
        middle = held[len(held) // 2][0] if held else 0
        later = self.store.frames(number, after=middle, limit=2, max_bytes=10**9)
        assert [each.index for each in later] == [each[0] for each in held if each[0] > middle][:2]
        messages = self.store.messages(number)
        assert {each.position: each.message for each in messages} == modelled.messages
        assert self.store.last_messages(number, limit=2, max_bytes=10**9) == messages[-2:]
        turns = self.store.turns(number)
        assert [
            (each.request_id, each.text, each.state, each.first_index, each.last_index, each.end)
            for each in turns
        ] == [
            (request_id, each.text, each.state, each.first_index, each.last_index, each.end)
            for request_id, each in modelled.turns.items()
        ]
        assert [each.suspended and each.suspended.content for each in turns] == [
            each.suspended for each in modelled.turns.values()
        ]
        assert [each.position for each in turns] == list(range(1, len(turns) + 1))
        assert self.store.latest_turn(number) == (turns[-1] if turns else None)
        for at in (None, *POSITIONS):
            assert [
                (each.request_id, each.kind, each.content, each.replaces, each.position)
                for each in self.store.memories(number, at=at)
            ] == [
                (each.request_id, each.kind, each.content, each.replaces, each.position)
                for each in modelled.memories_at(at)
            ]
        asked = self.store.requests(number)
        assert {each.reference: (each.request_id, each.event, each.answer) for each in asked} == (
            modelled.requests
        )
        checkpoints = self.store.checkpoints(number)
        assert {each.name: (each.request_id, each.position) for each in checkpoints} == {
            name: (each.request_id, each.position) for name, each in modelled.checkpoints.items()
        }

    def _compare_lists(self):
        modelled = self.model.conversations
        for tenant_id in "tu":
            own = {n: one for n, one in modelled.items() if one.opened.tenant_id == tenant_id}
            for states in ((), ("live",), ("dormant", "ended"), STATES):
                page = self.store.page(ListQuery(tenant_id=tenant_id, states=states))
                expected = sorted(n for n, one in own.items() if one.state in states)
                assert [each.number for each in page] == expected
            assert self.store.count(tenant_id) == len(own)
        unfinished = {n for n, one in modelled.items() if one.state == "live" or one.waiting}
        assert {each.number for each in self.store.unfinished()} == unfinished
        expired = self.store.expired(before_ms=5, limit=10)
        assert {each.number for each in expired} == {
            n
            for n, one in modelled.items()
            if one.state != "live" and not one.waiting and one.active_ms < 5
        }
        fences = [fence for one in modelled.values() for fence, _ in one.epochs]
        assert self.store.greatest_fence() == max(fences, default=0)


TestStoreAgainstModel = StoredConversations.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=40, stateful_step_count=15, deadline=None, derandomize=True
)
TestStoreAgainstModel.pytestmark = [pytest.mark.slow]
