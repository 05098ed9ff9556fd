"""The desk: sessions are opened, found and ended, and nothing of them is left."""

import asyncio
import contextlib
import gc
import tracemalloc

import pytest

from frontdesk import InvalidArgument, SessionAlreadyExists, SessionLimitExceeded, SessionNotFound
from frontdesk.agents import Blueprints, CreateSession, EndSession
from frontdesk.agents.blueprints import Blueprint
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.agents.task import TaskAgent
from frontdesk.sessions.errors import Draining, SessionDead
from frontdesk.sessions.expiry import Expiry, LifeTimes
from frontdesk.store import Limits
from frontdesk.testing import ManualClock
from support.sessions import (
    BOUND_S,
    Stream,
    facts,
    info_of,
    names,
    open_desk,
    open_session,
    parrot,
    passes,
    scripted,
    soon,
    text,
)

pytestmark = pytest.mark.anyio


async def waiting(turn):
    """Say that the turn has begun, and wait to be stopped."""
    yield "begun"
    await asyncio.Event().wait()


waiter = scripted(waiting, name="waiter")


def deaf_agent(released):
    async def deaf(turn):
        yield "deaf"
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()

    return scripted(deaf, name="deaf")


class Recipe:
    """A recipe of the test's own: `starting` runs where an agent is made."""

    def __init__(self, starting, agent=None):
        self.starting, self.agent = starting, agent

    def check(self, context):
        pass

    async def start(self, context):
        await self.starting(facts)
        return self.agent or TaskAgent(waiting)


def made_by(factory, **rules):
    return Blueprint(name="made", kind="python", factory=factory, **rules)


# -- opening -------------------------------------------------------------------------------------


async def test_a_session_is_in_the_registry_under_its_tenant_with_its_metadata():
    clock = ManualClock()
    async with open_desk(parrot, clock=clock) as desk:
        conversation = await open_session(desk, session_id="s-1", model="m-1")
        clock.advance(0.25)
        entry = desk.store.get("acme/s-1")
        assert (entry.tenant_id, entry.api_key) == ("acme", "key-1")
        assert (entry.blueprint, entry.model) == ("parrot", "m-1")
        assert info_of(conversation) == {
            "sessionId": "s-1",
            "state": "idle",
            "turns": 0,
            "toolCalls": 0,
            "totalTokens": 0,
            "uptimeMs": 250,
            "model": "m-1",
            "blueprint": "parrot",
            "createdAt": conversation.created_at,
            "tenantId": "acme",
            "restarts": 0,
            "pid": None,
        }


async def test_without_an_id_one_is_minted():
    async with open_desk(parrot) as desk:
        first, second = await open_session(desk), await open_session(desk)
        assert len(first.session_id) == len(second.session_id) == 16
        assert first.session_id != second.session_id


async def test_an_id_that_the_tenant_has_already_is_refused_and_the_holder_is_untouched():
    async with open_desk(parrot) as desk:
        holder = await open_session(desk, session_id="s-1")
        with pytest.raises(SessionAlreadyExists) as refused:
            await open_session(desk, session_id="s-1")
        assert "acme" not in str(refused.value), "the registry's own ids stay inside"
        assert desk.tenant("acme", "k").find("s-1") is holder


async def test_of_racing_creates_of_one_id_exactly_one_wins():
    async def slowly(facts):
        await asyncio.sleep(0)

    async with open_desk(made_by(Recipe(slowly))) as desk:
        results = await asyncio.gather(
            *(open_session(desk, session_id="s-1") for _ in range(50)), return_exceptions=True
        )
        refused = [each for each in results if isinstance(each, SessionAlreadyExists)]
        assert len(refused) == 49
        assert desk.store.count() == 1


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({"blueprint": "nothing"}, CreateFailed),
        ({"session_id": ".."}, InvalidArgument),
        ({"session_id": "a/b"}, InvalidArgument),
        ({"model": "forbidden"}, ModelRefused),
        ({"tools": ("hammer",)}, CreateFailed),
        ({"plugins": ("spy",)}, CreateFailed),
        ({"working_dir": "/etc"}, CreateFailed),
        ({"skills_dirs": ("skills",)}, CreateFailed),
        ({"max_turns": 0}, CreateFailed),
        ({"max_tokens": -1}, CreateFailed),
        ({"prompt_mode": "full"}, CreateFailed),
    ],
    ids=str,
)
async def test_what_cannot_or_may_not_be_is_refused_and_leaves_nothing(order, error):
    rules = {
        "models": ("none", "small"),
        "options": frozenset({"max_turns", "max_tokens", "working_dir", "tools", "plugins"}),
    }
    async with open_desk(scripted(waiting, **rules)) as desk:
        with pytest.raises(error):
            await open_session(desk, **order)
        assert desk.store.count() == 0
        assert len(desk._live) == 0


async def test_a_directory_resolves_under_the_tenants_root_and_nowhere_else(tmp_path):
    (tmp_path / "acme" / "work").mkdir(parents=True)
    (tmp_path / "globex").mkdir()
    (tmp_path / "acme" / "link").symlink_to(tmp_path / "globex")
    async with open_desk(parrot, tenants_root=tmp_path) as desk:
        conversation = await open_session(desk, working_dir="work")
        assert conversation.context.working_dir == str(tmp_path / "acme" / "work")
        for outside in ("../globex", "link", str(tmp_path), "/etc", "missing", "a\0b", "x" * 5000):
            with pytest.raises(CreateFailed) as refused:
                await open_session(desk, working_dir=outside)
            assert str(tmp_path / "globex") not in str(refused.value) or outside in str(
                refused.value
            )


async def test_an_agent_that_cannot_be_started_leaves_nothing_and_its_id_is_free():
    async def failing(facts):
        raise RuntimeError("secret")

    async with open_desk(made_by(Recipe(failing)), parrot) as desk:
        with pytest.raises(CreateFailed) as refused:
            await open_session(desk, session_id="s-1")
        assert "secret" not in str(refused.value)
        assert desk.store.count() == 0
        await open_session(desk, session_id="s-1", blueprint="parrot")


async def test_a_create_that_is_cancelled_leaves_nothing_and_its_id_is_free():
    begun = asyncio.Event()

    async def slowly(facts):
        begun.set()
        await asyncio.Event().wait()

    async with open_desk(made_by(Recipe(slowly)), parrot) as desk:
        creating = asyncio.create_task(open_session(desk, session_id="s-1"))
        await begun.wait()
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert desk.store.count() == 0
        await open_session(desk, session_id="s-1", blueprint="parrot")


class Body:
    """An agent that is not a task: the registry monitors a future."""

    def __init__(self):
        self.registry_agent = asyncio.get_running_loop().create_future()
        self.ended = 0

    async def run_turn(self, port):
        await asyncio.Event().wait()

    async def end(self, grace_s):
        self.ended += 1
        if not self.registry_agent.done():
            self.registry_agent.set_result(None)


async def nothing(facts):
    pass


async def test_an_agent_that_ended_while_it_was_started_is_a_create_that_failed():
    body = Body()
    body.registry_agent.set_result(None)
    async with open_desk(made_by(Recipe(nothing, body))) as desk:
        with pytest.raises(CreateFailed):
            await open_session(desk)
        assert body.ended
        assert desk.store.count() == 0


async def test_a_session_beyond_a_limit_is_refused_before_its_agent_is_started():
    body = Body()
    bodies = iter([Body(), body])

    class Recipes(Recipe):
        async def start(self, context):
            return next(bodies)

    async with open_desk(made_by(Recipes(nothing)), limits=Limits(per_tenant=1)) as desk:
        await open_session(desk)
        with pytest.raises(SessionLimitExceeded) as refused:
            await open_session(desk)
        assert (refused.value.scope, refused.value.limit) == ("per_tenant", 1)
        assert next(bodies) is body


async def test_an_agent_whose_place_was_taken_while_it_started_is_ended():
    body = Body()

    class Recipes(Recipe):
        async def start(self, context):
            # Whoever shares the registry may enter agents of its own.
            desk.store.create(
                "theirs", asyncio.get_running_loop().create_future(), tenant_id="acme"
            )
            return body

    async with open_desk(made_by(Recipes(nothing)), limits=Limits(per_tenant=1)) as desk:
        with pytest.raises(SessionLimitExceeded) as refused:
            await open_session(desk)
        assert (refused.value.scope, refused.value.limit) == ("per_tenant", 1)
        assert body.ended
        desk.store.delete("theirs")


async def test_a_blueprints_own_limit_counts_each_tenant_and_forgets_who_has_left():
    async with open_desk(scripted(waiting, max_sessions_per_tenant=2), parrot) as desk:
        first = await open_session(desk)
        await open_session(desk)
        with pytest.raises(SessionLimitExceeded):
            await open_session(desk)
        await open_session(desk, tenant="globex")
        await open_session(desk, blueprint="parrot")
        desk.store.get(f"acme/{first.session_id}").agent.cancel()
        await asyncio.sleep(0)
        await open_session(desk)
        with pytest.raises(SessionLimitExceeded):
            await open_session(desk)


async def test_the_blueprints_can_be_replaced_while_sessions_keep_theirs():
    async with open_desk(parrot) as desk:
        before = await open_session(desk)
        desk.blueprints = Blueprints([waiter])
        assert (await open_session(desk)).blueprint == "waiter"
        with pytest.raises(CreateFailed):
            await open_session(desk, blueprint="parrot")
        stream = Stream(before)
        before.prompt("still here")
        assert text(await stream.until("agent_end")) == "still here "
        stream.close()


# -- tenants -------------------------------------------------------------------------------------


async def test_two_tenants_with_the_same_session_id_work_side_by_side():
    async with open_desk(parrot) as desk:
        mine = await open_session(desk, session_id="s-1")
        theirs = await open_session(desk, tenant="globex", session_id="s-1")
        assert desk.tenant("acme", "a").find("s-1") is mine
        assert desk.tenant("globex", "b").find("s-1") is theirs
        await desk.tenant("acme", "a").delete("s-1")
        assert desk.tenant("globex", "b").find("s-1") is theirs


@pytest.mark.parametrize("verb", ["find", "recent", "delete"])
@pytest.mark.parametrize("ended", [False, True])
async def test_another_tenants_session_is_as_if_it_had_never_existed(verb, ended):
    async with open_desk(parrot) as desk:
        await open_session(desk, session_id="s-1")
        if ended:
            await desk.tenant("acme", "a").delete("s-1")
        globex, answers = desk.tenant("globex", "b"), []
        for session_id in ("s-1", "never"):
            with pytest.raises(SessionNotFound) as refused:
                await asyncio.ensure_future(getattr(globex, verb)(session_id))
            answers.append((type(refused.value), str(refused.value).replace(session_id, "")))
        assert answers[0] == answers[1] == (SessionNotFound, "no session ''")


async def test_a_tenants_list_has_its_own_sessions_oldest_first_in_pages():
    async with open_desk(parrot) as desk:
        acme = desk.tenant("acme", "a")
        opened = [(await open_session(desk)).session_id for _ in range(7)]
        await open_session(desk, tenant="globex")
        seen, after = [], None
        while True:
            page, after = acme.sessions(limit=3, after=after)
            seen += [each.session_id for each in page]
            if after is None:
                break
        assert seen == opened
        for wrong in ({"limit": 0}, {"limit": 1001}, {"after": "x"}):
            with pytest.raises(InvalidArgument):
                acme.sessions(**wrong)


# -- finding what has ended ----------------------------------------------------------------------


async def test_a_lookup_never_returns_a_session_whose_agent_has_ended_told_of_it_or_not():
    async with open_desk(made_by(Recipe(nothing, body := Body()))) as desk:
        await open_session(desk, session_id="s-1")
        body.registry_agent.set_exception(ValueError("secret"))
        with pytest.raises(SessionDead) as dead:
            desk.tenant("acme", "a").find("s-1")
        assert dead.value.reason.error == "ValueError"
        assert "secret" not in str(dead.value)


async def test_the_stream_of_a_session_that_ended_says_how_and_replays():
    async with open_desk(parrot) as desk:
        acme = desk.tenant("acme", "a")
        conversation = await open_session(desk, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("hello")
        await stream.until("agent_end")
        await acme.delete("s-1")
        await stream.rest()
        assert facts(stream.frames[-1]) == {"reason": "deleted"}
        replayed = acme.recent("s-1")
        again = Stream(replayed)
        assert names(await again.rest())[-1] == "session_end"
        assert replayed.subscribe(since=stream.frames[-1].id).drained


async def test_recent_ends_are_bounded_by_number_and_by_bytes():
    async with open_desk(parrot, recent_ends=3) as desk:
        acme = desk.tenant("acme", "a")
        for number in range(5):
            await open_session(desk, session_id=f"s-{number}")
            await acme.delete(f"s-{number}")
        with pytest.raises(SessionDead):
            acme.recent("s-1")
        acme.recent("s-2")
    async with open_desk(parrot, recent_ends_bytes=1000) as desk:
        acme = desk.tenant("acme", "a")
        for number in range(3):
            conversation = await open_session(desk, session_id=f"s-{number}")
            stream = Stream(conversation)
            conversation.prompt("x" * 200)
            await stream.until("agent_end")
            stream.close()
            await acme.delete(f"s-{number}")
        held = [n for n in range(3) if desk.recently_ended(f"acme/s-{n}") is not None]
        assert held in ([2], [])


async def test_an_id_can_be_used_again_and_streams_of_the_old_one_get_a_gap():
    async with open_desk(parrot) as desk:
        acme = desk.tenant("acme", "a")
        first = await open_session(desk, session_id="s-1")
        await acme.delete("s-1")
        second = await open_session(desk, session_id="s-1")
        assert second.fence != first.fence
        assert acme.recent("s-1") is second
        reader = second.subscribe(since=f"{first.fence}-1")
        gap = await reader.next()
        assert gap.resumes_at == f"{second.fence}-1"
        reader.close()


# -- deleting ------------------------------------------------------------------------------------


async def test_a_delete_during_a_turn_answers_and_leaves_nothing():
    async with open_desk(waiter) as desk:
        conversation = await open_session(desk, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await asyncio.wait_for(desk.tenant("acme", "a").delete("s-1"), BOUND_S)
        assert names(await stream.rest()) == ["agent_abort", "session_end"]
        assert desk.store.count() == 0
        assert desk.stuck == 0
        assert str(desk.store.ended("acme/s-1").reason) == "deleted"


async def test_a_delete_of_an_agent_that_hears_nothing_answers_within_the_grace_period():
    released = asyncio.Event()
    async with open_desk(deaf_agent(released), end_grace_s=0.05) as desk:
        conversation = await open_session(desk, session_id="s-1")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await asyncio.wait_for(desk.tenant("acme", "a").delete("s-1"), BOUND_S)
        assert desk.store.count() == 0
        assert desk.stuck == 1
        assert names(await stream.rest()) == ["agent_abort", "session_end"]
        released.set()
        await soon(lambda: desk.stuck == 0)


async def test_deletes_at_the_same_time_all_answer():
    async with open_desk(waiter) as desk:
        conversation = await open_session(desk, session_id="s-1")
        conversation.prompt("go")
        results = await asyncio.wait_for(
            asyncio.gather(
                *(desk.tenant("acme", "a").delete("s-1") for _ in range(20)),
                return_exceptions=True,
            ),
            BOUND_S,
        )
        assert results[0] is None
        assert all(each is None or isinstance(each, SessionDead) for each in results)


async def test_a_delete_whose_caller_leaves_still_ends_the_session():
    async with open_desk(waiter) as desk:
        conversation = await open_session(desk, session_id="s-1")
        conversation.prompt("go")
        deleting = asyncio.create_task(desk.tenant("acme", "a").delete("s-1"))
        await asyncio.sleep(0)
        deleting.cancel()
        await soon(lambda: desk.store.count() == 0)
        await asyncio.wait({deleting})


async def test_a_delete_of_what_is_not_there_says_so():
    async with open_desk(parrot) as desk:
        with pytest.raises(SessionNotFound):
            await desk.tenant("acme", "a").delete("never")


async def test_the_agent_of_a_deleted_session_is_ended_and_its_entry_says_deleted():
    async with open_desk(made_by(Recipe(nothing, body := Body()))) as desk:
        await open_session(desk, session_id="s-1")
        await desk.tenant("acme", "a").delete("s-1")
        assert body.ended
        assert str(desk.store.ended("acme/s-1").reason) == "deleted"


async def test_an_agent_that_never_ends_does_not_keep_a_delete_from_answering():
    class Stone(Body):
        async def end(self, grace_s):
            await asyncio.Event().wait()

    stone = Stone()
    async with open_desk(made_by(Recipe(nothing, stone)), end_grace_s=0.05) as desk:
        await open_session(desk, session_id="s-1")
        await asyncio.wait_for(desk.tenant("acme", "a").delete("s-1"), BOUND_S)
        assert desk.store.count() == 0
        for task in desk._supervisor._tasks:
            task.cancel()


# -- what has gone wrong elsewhere ----------------------------------------------------------------


async def test_one_error_in_the_desks_hearing_does_not_stop_it_for_life(monkeypatch, caplog):
    async with open_desk(parrot) as desk:
        broken, other = await open_session(desk), await open_session(desk)
        stream = Stream(other)

        def fail(reason):
            raise RuntimeError("broken")

        with monkeypatch.context() as patch, caplog.at_level("CRITICAL", "frontdesk.sessions"):
            patch.setattr(type(broken), "end", lambda self, reason: fail(reason))
            desk.store.delete(f"acme/{broken.session_id}")
            await passes(20)
        desk.store.delete(f"acme/{other.session_id}")
        assert names(await stream.rest()) == ["session_end"]


async def test_a_blocked_clean_up_of_one_session_hangs_no_unrelated_request():
    released = asyncio.Event()
    async with open_desk(deaf_agent(released), parrot, end_grace_s=BOUND_S) as desk:
        conversation = await open_session(desk, session_id="deaf")
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        deleting = asyncio.create_task(desk.tenant("acme", "a").delete("deaf"))
        await passes()
        other = await open_session(desk, blueprint="parrot")
        other_stream = Stream(other)
        other.prompt("hello")
        await other_stream.until("agent_end")
        other_stream.close()
        await desk.tenant("acme", "a").delete(other.session_id)
        assert not deleting.done()
        released.set()
        await deleting
        stream.close()


async def test_expiry_ends_the_agent_and_not_only_its_entry():
    body = Body()
    async with open_desk(made_by(Recipe(nothing, body), unused_timeout_s=0.01)) as desk:
        conversation = await open_session(desk)
        await soon(lambda: conversation.ended is not None)
        assert body.ended
        assert body.registry_agent.done()


@pytest.mark.parametrize("end", ["delete", "crash", "cancel", "expire", "drain", "session"])
async def test_every_end_comes_back_to_a_count_of_zero(end):
    async def script(turn):
        if end == "session":
            raise EndSession
        await asyncio.Event().wait()
        yield "never"

    body = Body()
    rules = {"unused_timeout_s": 0.01} if end == "expire" else {}
    made = made_by(Recipe(nothing, body)) if end == "crash" else scripted(script, **rules)
    async with open_desk(made) as desk:
        conversation = await open_session(desk, session_id="s-1")
        if end not in {"expire", "crash"}:
            conversation.prompt("go")
            await passes()
        if end == "delete":
            await desk.tenant("acme", "a").delete("s-1")
        elif end == "crash":
            body.registry_agent.set_exception(ValueError("crash"))
        elif end == "cancel":
            desk.store.get("acme/s-1").agent.cancel()
        elif end == "drain":
            await desk.drain(0.0)
        await soon(lambda: conversation.ended is not None)
        await soon(lambda: not desk._supervisor._tasks)
        assert (desk.store.count(), len(desk._live), desk.stuck) == (0, 0, 0)
        assert desk._live.count("acme", conversation.blueprint) == 0


# -- time ----------------------------------------------------------------------------------------


async def test_a_session_that_is_opened_and_abandoned_expires_and_nothing_is_left():
    async with open_desk(scripted(waiting, unused_timeout_s=0.05)) as desk:
        opened = [await open_session(desk) for _ in range(500)]
        await soon(lambda: desk.store.count() == 0)
        assert {str(each.ended) for each in opened} == {"expired"}
        assert len(desk._live) == 0


async def test_an_open_stream_keeps_a_session_from_idling_out():
    async with open_desk(scripted(waiting, unused_timeout_s=0.02)) as desk:
        watched, other = await open_session(desk), await open_session(desk)
        stream = Stream(watched)
        await soon(lambda: other.ended is not None)
        assert watched.ended is None
        stream.close()
        await soon(lambda: watched.ended is not None)


async def test_a_turn_under_way_keeps_a_session_from_idling_out_but_not_from_its_greatest_age():
    rules = {"idle_timeout_s": 0.01, "unused_timeout_s": 0.01, "max_age_s": 0.2}
    async with open_desk(scripted(waiting, **rules)) as desk:
        conversation, other = await open_session(desk), await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        await soon(lambda: other.ended is not None)
        assert conversation.ended is None
        frames = await stream.rest()
        assert [facts(each)["reason"] for each in frames[-2:]] == ["expired", "expired"]


async def test_times_run_out_when_they_should_and_not_before():
    clock, expired = ManualClock(), []
    expiry = Expiry(
        LifeTimes(idle_s=100, unused_s=10, age_s=1000),
        clock=clock,
        expire=lambda: expired.append(clock.monotonic()),
    )
    born = clock.monotonic()
    clock.advance(9)
    expiry.look()
    expiry.busy(used=True)
    clock.advance(500)
    expiry.look()
    expiry.idle()
    clock.advance(99)
    expiry.look()
    assert not expired
    expiry.busy()
    expiry.idle()
    clock.advance(99)
    expiry.look()
    assert not expired, "the idle time began again with the last turn"
    clock.advance(2)
    expiry.look()
    assert expired == [born + 9 + 500 + 99 + 99 + 2]
    clock.advance(5000)
    expiry.look()
    assert len(expired) == 1


async def test_a_session_never_used_has_the_shorter_time():
    clock, expired = ManualClock(), []
    expiry = Expiry(
        LifeTimes(idle_s=100, unused_s=10), clock=clock, expire=lambda: expired.append(True)
    )
    clock.advance(10)
    expiry.look()
    assert expired


# -- draining ------------------------------------------------------------------------------------


async def test_a_drain_refuses_what_is_new_lets_turns_finish_and_ends_streams_with_shutdown():
    go = asyncio.Event()

    async def script(turn):
        await go.wait()
        yield turn.text

    async with open_desk(scripted(script)) as desk:
        conversation, idle = await open_session(desk), await open_session(desk)
        stream, idle_stream = Stream(conversation), Stream(idle)
        conversation.prompt("under way")
        await stream.until("agent_start")
        conversation.prompt("waits and is not begun")
        draining = asyncio.create_task(desk.drain(BOUND_S))
        await idle_stream.rest()
        assert facts(idle_stream.frames[-1]) == {"reason": "shutdown"}
        assert desk.draining
        with pytest.raises(Draining):
            await open_session(desk)
        with pytest.raises(Draining):
            conversation.prompt("too late")
        go.set()
        await draining
        frames = await stream.rest()
        assert text(frames) == "under way"
        assert names(frames)[-2:] == ["agent_end", "session_end"]
        assert desk.store.count() == 0


async def test_a_turn_that_outlasts_the_drain_is_aborted_and_the_drain_ends():
    async with open_desk(waiter) as desk:
        conversation = await open_session(desk)
        stream = Stream(conversation)
        conversation.prompt("go")
        await stream.until("message_delta")
        await asyncio.wait_for(desk.drain(0.02), BOUND_S)
        frames = await stream.rest()
        assert [(each.name, facts(each)["reason"]) for each in frames] == [
            ("agent_abort", "shutdown"),
            ("session_end", "shutdown"),
        ]


async def test_a_create_under_way_when_the_drain_begins_leaves_nothing():
    begun, go, body = asyncio.Event(), asyncio.Event(), Body()

    async def slowly(facts):
        begun.set()
        await go.wait()

    async with open_desk(made_by(Recipe(slowly, body))) as desk:
        creating = asyncio.create_task(open_session(desk))
        await begun.wait()
        await desk.drain(0.0)
        go.set()
        with pytest.raises(Draining):
            await creating
        assert body.ended
        assert desk.store.count() == 0


async def test_a_store_that_is_closed_under_the_desk_ends_every_conversation():
    async with open_desk(parrot) as desk:
        stream = Stream(await open_session(desk))
        desk.store.close()
        frames = await stream.rest()
        assert facts(frames[-1]) == {"reason": "shutdown"}


# -- what it costs -------------------------------------------------------------------------------


async def test_an_idle_session_is_one_task():
    async with open_desk(parrot) as desk:
        before = len(asyncio.all_tasks())
        for _ in range(100):
            await open_session(desk)
        assert len(asyncio.all_tasks()) == before + 100


async def test_an_idle_session_takes_at_most_15_kib():
    async with open_desk(parrot) as desk:
        acme = desk.tenant("acme", "key-1")
        await acme.create(CreateSession(model="none"))
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(500):
            await acme.create(CreateSession(model="none"))
        gc.collect()
        taken = (tracemalloc.get_traced_memory()[0] - before) / 500
        tracemalloc.stop()
        assert taken <= 15 * 1024


async def test_ten_thousand_opened_and_deleted_sessions_leave_nothing_behind():
    async with open_desk(parrot, recent_ends=10) as desk:
        acme = desk.tenant("acme", "key-1")
        for _ in range(100):
            opened = [await acme.create(CreateSession(model="none")) for _ in range(100)]
            await asyncio.gather(*(acme.delete(each.session_id) for each in opened))
        assert desk.store.count() == 0
        assert len(desk._live) == 0
        assert desk._live.count("acme", "parrot") == 0
        assert len(desk._supervisor.recent) == 10
        assert not desk._reservations


async def test_fences_and_cursors_tell_nothing_of_other_tenants_sessions():
    async with open_desk(parrot) as desk:
        fences, cursors = [], []
        for _ in range(3):
            await open_session(desk, tenant="globex")
            fences.append((await open_session(desk)).fence)
            await open_session(desk)
            cursors.append(int(desk.tenant("acme", "k").sessions(limit=1)[1]))
        assert len(set(fences)) == 3
        assert not {each.fence for each in desk.store.list_by_tenant("acme")} & set(fences)
        registered = {each.fence for each in desk.store.list()}
        assert not registered & set(cursors)


async def test_a_session_list_is_in_the_order_of_creation_whatever_the_clock_says():
    clock = ManualClock()
    async with open_desk(parrot, clock=clock) as desk:
        opened = [(await open_session(desk)).session_id for _ in range(20)]
        acme, listed, after = desk.tenant("acme", "k"), [], None
        while True:
            page, after = acme.sessions(limit=3, after=after)
            listed += [each.session_id for each in page]
            if after is None:
                break
        assert listed == opened
