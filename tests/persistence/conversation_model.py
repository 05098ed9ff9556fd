"""What a store of conversations answers, predicted by dictionaries."""

from dataclasses import dataclass, field

from frontdesk.persistence import operations as ops

ENDS = {"completed", "failed", "cancelled"}


@dataclass
class Turn:
    """One turn, as its operations left it."""

    text: str
    state: str = "queued"
    first_index: int = 0
    last_index: int = 0
    end: bytes | None = None
    suspended: bytes | None = None


@dataclass
class Modelled:
    """One conversation."""

    opened: ops.ConversationOpened
    state: str = "live"
    active_ms: int = 0
    options: bytes = b""
    label: str | None = None
    model: str = ""
    ended: bytes | None = None
    totals: bytes = b""
    oldest: int = 1
    epochs: list = field(default_factory=list)
    frames: list = field(default_factory=list)
    messages: dict = field(default_factory=dict)
    turns: dict = field(default_factory=dict)
    memories: list = field(default_factory=list)
    requests: dict = field(default_factory=dict)
    checkpoints: dict = field(default_factory=dict)

    def memories_at(self, at):
        """Return what memory there was up to a message, and was not replaced by then; or is now."""
        return [
            told
            for told, until in self.memories
            if (until is None if at is None else told.position <= at and at < (until or at + 1))
        ]

    def free_memories(self):
        """Drop what was replaced, but for what there was of it at a checkpoint."""
        ends = {each.position for each in self.checkpoints.values()}
        self.memories = [
            (told, until)
            for told, until in self.memories
            if until is None or ends & set(range(told.position, until))
        ]

    @property
    def waiting(self):
        return sum(turn.state not in ENDS for turn in self.turns.values())


class ConversationModel:
    """Carries out operations on dictionaries; one owner has all."""

    def __init__(self):
        self.conversations = {}
        self.answers = {}

    def apply(self, operations):
        """Carry out a batch, and return the numbers of what was not there."""
        lost, erased = set(), set()
        for each in operations:
            if isinstance(each, ops.TenantErased):
                gone = [
                    n
                    for n, one in self.conversations.items()
                    if one.opened.tenant_id == each.tenant_id
                ]
                for number in gone:
                    self._erase(number)
                erased.update(gone)
                continue
            found = self.conversations.get(each.number)
            if found is None and isinstance(each, ops.ConversationOpened):
                self.conversations[each.number] = Modelled(
                    each,
                    active_ms=each.created_at_ms,
                    options=each.options,
                    label=each.label,
                    model=each.model,
                    epochs=[(each.fence, 1)],
                )
            elif found is not None:
                getattr(self, f"_{type(each).__name__}")(found, each)
                if isinstance(each, ops.ConversationErased):
                    erased.add(each.number)
            elif each.number not in erased:
                lost.add(each.number)
        return lost

    def _erase(self, number):
        del self.conversations[number]
        for slot in [slot for slot, one in self.answers.items() if one.number == number]:
            del self.answers[slot]

    def _ConversationOpened(self, one, each):
        pass

    def _ConversationErased(self, one, each):
        self._erase(each.number)

    def _EpochBegun(self, one, each):
        if each.fence not in [fence for fence, _ in one.epochs]:
            one.epochs.append((each.fence, each.first_index))
            one.epochs.sort()
        one.state, one.ended = "live", None
        one.active_ms = max(one.active_ms, each.at_ms)

    def _ConversationLeft(self, one, each):
        one.state, one.ended = "dormant", None
        one.active_ms = max(one.active_ms, each.at_ms)

    def _ConversationEnded(self, one, each):
        one.state, one.ended = "ended", each.reason
        one.active_ms = max(one.active_ms, each.at_ms)

    def _OptionsChanged(self, one, each):
        one.model = one.model if each.model is None else each.model
        one.options = one.options if each.options is None else each.options
        one.label = one.label if each.label is None else each.label

    def _TurnQueued(self, one, each):
        one.turns.setdefault(each.request_id, Turn(each.text))
        one.active_ms = max(one.active_ms, each.at_ms)

    def _TurnBegun(self, one, each):
        turn = one.turns.get(each.request_id)
        if turn and turn.state not in ENDS:
            turn.state, turn.suspended = "running", None
            turn.first_index = turn.first_index or each.first_index
        one.active_ms = max(one.active_ms, each.at_ms)

    def _TurnFinished(self, one, each):
        turn = one.turns.get(each.request_id)
        if turn and turn.state not in ENDS:
            turn.state, turn.suspended = each.state, None
            turn.last_index, turn.end = each.last_index, each.end
        gone = [r for r, asked in one.requests.items() if asked[0] == each.request_id]
        for reference in gone:
            del one.requests[reference]
        one.totals = each.totals
        one.active_ms = max(one.active_ms, each.at_ms)

    def _TurnCounted(self, one, each):
        one.totals = each.totals

    def _TurnSuspended(self, one, each):
        turn = one.turns.get(each.request_id)
        if turn and turn.state not in ENDS:
            turn.state, turn.suspended = "suspended", each.content

    def _TurnResumed(self, one, each):
        turn = one.turns.get(each.request_id)
        if turn and turn.state == "suspended":
            turn.state, turn.suspended = "running", None

    def _FramesAppended(self, one, each):
        for index, frame in enumerate(each.frames, each.first_index):
            if not one.frames or index > one.frames[-1][0]:
                one.frames.append((index, each.fence, frame))

    def _FramesDropped(self, one, each):
        last = one.frames[-1][0] if one.frames else 0
        one.oldest = max(one.oldest, min(each.before_index, last + 1))

    def _MessageAdded(self, one, each):
        one.messages.setdefault(each.position, each.message)

    def _MemoryAdded(self, one, each):
        until = {told: until for told, until in one.memories if told == each}
        if until.get(each) is not None or (until and not each.replaces):
            return
        if each.replaces:
            one.memories = [
                (told, min(until or each.position, each.position))
                if told.kind == each.kind
                else (told, until)
                for told, until in one.memories
            ]
            one.free_memories()
        one.memories.append((each, None))

    def _RequestAsked(self, one, each):
        one.requests.setdefault(each.reference, (each.request_id, each.event, None))

    def _RequestAnswered(self, one, each):
        asked = one.requests.get(each.reference)
        if asked and each.answer is None:
            del one.requests[each.reference]
        elif asked:
            one.requests[each.reference] = (*asked[:2], each.answer)

    def _CheckpointMade(self, one, each):
        one.checkpoints[each.name] = each
        one.free_memories()

    def _CheckpointRemoved(self, one, each):
        one.checkpoints.pop(each.name, None)
        one.free_memories()

    def _AnswerStored(self, one, each):
        self.answers[each.slot] = each
