"""The session service: how sessions are opened, whose they are, and what an idle one costs."""

import asyncio
import gc
import tracemalloc

import pytest

from frontdesk import InvalidArgument, SessionAlreadyExists, SessionLimitExceeded, SessionNotFound
from frontdesk.agents import Blueprints, CreateSession
from frontdesk.agents.errors import CreateFailed, ModelRefused
from frontdesk.store import Limits
from frontdesk.testing import ManualClock
from support.sessions import (
    FactoryOfTheTest,
    FakeAgent,
    Stream,
    info_of,
    made_by,
    nothing,
    open_service,
    open_session,
    parrot,
    scripted,
    text,
    waiter,
    waiting,
)

pytestmark = pytest.mark.anyio


# -- opening ---------------------------------------------------------------------------------------


async def test_a_session_is_in_the_registry_under_its_tenant_with_its_metadata():
    clock = ManualClock()
    async with open_service(parrot, clock=clock) as service:
        conversation = await open_session(service, session_id="s-1", model="m-1")
        clock.advance(0.25)
        entry = service.store.get("acme/s-1")
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
            "live": True,
            "stored": False,
            "label": None,
            "blocked": None,
            "lastActivityAt": conversation.created_at,
            "forkedFrom": None,
            "fence": str(conversation.fence),
        }


async def test_without_an_id_one_is_minted():
    async with open_service(parrot) as service:
        first, second = await open_session(service), await open_session(service)
        assert len(first.session_id) == len(second.session_id) == 16
        assert first.session_id != second.session_id


async def test_an_id_that_the_tenant_has_already_is_refused_and_the_holder_is_untouched():
    async with open_service(parrot) as service:
        holder = await open_session(service, session_id="s-1")
        with pytest.raises(SessionAlreadyExists) as refused:
            await open_session(service, session_id="s-1")
        assert "acme" not in str(refused.value), "the registry's own ids stay inside"
        assert service.tenant("acme", "k").find("s-1") is holder


async def test_of_racing_creates_of_one_id_exactly_one_wins():
    async def slowly(context):
        await asyncio.sleep(0)

    async with open_service(made_by(FactoryOfTheTest(slowly))) as service:
        results = await asyncio.gather(
            *(open_session(service, session_id="s-1") for _ in range(50)), return_exceptions=True
        )
        refused = [each for each in results if isinstance(each, SessionAlreadyExists)]
        assert len(refused) == 49
        assert service.store.count() == 1


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
    async with open_service(scripted(waiting, **rules)) as service:
        with pytest.raises(error):
            await open_session(service, **order)
        assert service.store.count() == 0
        assert len(service._live) == 0


async def test_a_directory_resolves_under_the_tenants_root_and_nowhere_else(tmp_path):
    (tmp_path / "acme" / "work").mkdir(parents=True)
    (tmp_path / "globex").mkdir()
    (tmp_path / "acme" / "link").symlink_to(tmp_path / "globex")
    async with open_service(parrot, tenants_root=tmp_path) as service:
        conversation = await open_session(service, working_dir="work")
        assert conversation.context.working_dir == str(tmp_path / "acme" / "work")
        for outside in ("../globex", "link", str(tmp_path), "/etc", "missing", "a\0b", "x" * 5000):
            with pytest.raises(CreateFailed) as refused:
                await open_session(service, working_dir=outside)
            assert str(tmp_path / "globex") not in str(refused.value) or outside in str(
                refused.value
            )


async def test_an_agent_that_cannot_be_started_leaves_nothing_and_its_id_is_free():
    async def failing(context):
        raise RuntimeError("secret")

    async with open_service(made_by(FactoryOfTheTest(failing)), parrot) as service:
        with pytest.raises(CreateFailed) as refused:
            await open_session(service, session_id="s-1")
        assert "secret" not in str(refused.value)
        assert service.store.count() == 0
        await open_session(service, session_id="s-1", blueprint="parrot")


async def test_a_create_that_is_cancelled_leaves_nothing_and_its_id_is_free():
    begun = asyncio.Event()

    async def slowly(context):
        begun.set()
        await asyncio.Event().wait()

    async with open_service(made_by(FactoryOfTheTest(slowly)), parrot) as service:
        creating = asyncio.create_task(open_session(service, session_id="s-1"))
        await begun.wait()
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        assert service.store.count() == 0
        await open_session(service, session_id="s-1", blueprint="parrot")


async def test_an_agent_that_ended_while_it_was_started_is_a_create_that_failed():
    body = FakeAgent()
    body.registry_agent.set_result(None)
    async with open_service(made_by(FactoryOfTheTest(nothing, body))) as service:
        with pytest.raises(CreateFailed):
            await open_session(service)
        assert body.ended
        assert service.store.count() == 0


async def test_a_session_beyond_a_limit_is_refused_before_its_agent_is_started():
    body = FakeAgent()
    bodies = iter([FakeAgent(), body])

    class Recipes(FactoryOfTheTest):
        async def start(self, context):
            return next(bodies)

    async with open_service(made_by(Recipes(nothing)), limits=Limits(per_tenant=1)) as service:
        await open_session(service)
        with pytest.raises(SessionLimitExceeded) as refused:
            await open_session(service)
        assert (refused.value.scope, refused.value.limit) == ("per_tenant", 1)
        assert next(bodies) is body


async def test_an_agent_whose_place_was_taken_while_it_started_is_ended():
    body = FakeAgent()

    class Recipes(FactoryOfTheTest):
        async def start(self, context):
            # Whoever shares the registry may enter agents of its own.
            service.store.create(
                "theirs", asyncio.get_running_loop().create_future(), tenant_id="acme"
            )
            return body

    async with open_service(made_by(Recipes(nothing)), limits=Limits(per_tenant=1)) as service:
        with pytest.raises(SessionLimitExceeded) as refused:
            await open_session(service)
        assert (refused.value.scope, refused.value.limit) == ("per_tenant", 1)
        assert body.ended
        service.store.delete("theirs")


async def test_a_blueprints_own_limit_counts_each_tenant_and_forgets_who_has_left():
    async with open_service(scripted(waiting, max_sessions_per_tenant=2), parrot) as service:
        first = await open_session(service)
        await open_session(service)
        with pytest.raises(SessionLimitExceeded):
            await open_session(service)
        await open_session(service, tenant="globex")
        await open_session(service, blueprint="parrot")
        service.store.get(f"acme/{first.session_id}").agent.cancel()
        await asyncio.sleep(0)
        await open_session(service)
        with pytest.raises(SessionLimitExceeded):
            await open_session(service)


async def test_the_blueprints_can_be_replaced_while_sessions_keep_theirs():
    async with open_service(parrot) as service:
        before = await open_session(service)
        service.blueprints = Blueprints([waiter])
        assert (await open_session(service)).blueprint == "waiter"
        with pytest.raises(CreateFailed):
            await open_session(service, blueprint="parrot")
        stream = Stream(before)
        before.prompt("still here")
        assert text(await stream.until("agent_end")) == "still here "
        stream.close()


# -- tenants ---------------------------------------------------------------------------------------


async def test_two_tenants_with_the_same_session_id_work_side_by_side():
    async with open_service(parrot) as service:
        mine = await open_session(service, session_id="s-1")
        theirs = await open_session(service, tenant="globex", session_id="s-1")
        assert service.tenant("acme", "a").find("s-1") is mine
        assert service.tenant("globex", "b").find("s-1") is theirs
        await service.tenant("acme", "a").delete("s-1")
        assert service.tenant("globex", "b").find("s-1") is theirs


@pytest.mark.parametrize("verb", ["find", "recent", "delete"])
@pytest.mark.parametrize("ended", [False, True])
async def test_another_tenants_session_is_as_if_it_had_never_existed(verb, ended):
    async with open_service(parrot) as service:
        await open_session(service, session_id="s-1")
        if ended:
            await service.tenant("acme", "a").delete("s-1")
        globex, answers = service.tenant("globex", "b"), []
        for session_id in ("s-1", "never"):
            with pytest.raises(SessionNotFound) as refused:
                await asyncio.ensure_future(getattr(globex, verb)(session_id))
            answers.append((type(refused.value), str(refused.value).replace(session_id, "")))
        assert answers[0] == answers[1] == (SessionNotFound, "no session ''")


async def test_a_tenants_list_has_its_own_sessions_oldest_first_in_pages():
    async with open_service(parrot) as service:
        acme = service.tenant("acme", "a")
        opened = [(await open_session(service)).session_id for _ in range(7)]
        await open_session(service, tenant="globex")
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


# -- what it costs ---------------------------------------------------------------------------------


async def test_an_idle_session_is_one_task():
    async with open_service(parrot) as service:
        before = len(asyncio.all_tasks())
        for _ in range(100):
            await open_session(service)
        assert len(asyncio.all_tasks()) == before + 100


async def test_an_idle_session_takes_at_most_15_kib():
    async with open_service(parrot) as service:
        acme = service.tenant("acme", "key-1")
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
    async with open_service(parrot, recent_ends=10) as service:
        acme = service.tenant("acme", "key-1")
        for _ in range(100):
            opened = [await acme.create(CreateSession(model="none")) for _ in range(100)]
            await asyncio.gather(*(acme.delete(each.session_id) for each in opened))
        assert service.store.count() == 0
        assert len(service._live) == 0
        assert service._live.count("acme", "parrot") == 0
        assert len(service._supervisor.recent) == 10
        assert not service._reservations


async def test_fences_and_cursors_tell_nothing_of_other_tenants_sessions():
    async with open_service(parrot) as service:
        fences, cursors = [], []
        for _ in range(3):
            await open_session(service, tenant="globex")
            fences.append((await open_session(service)).fence)
            await open_session(service)
            cursors.append(int(service.tenant("acme", "k").sessions(limit=1)[1]))
        assert len(set(fences)) == 3
        assert not {each.fence for each in service.store.list_by_tenant("acme")} & set(fences)
        registered = {each.fence for each in service.store.list()}
        assert not registered & set(cursors)


async def test_a_session_list_is_in_the_order_of_creation_whatever_the_clock_says():
    clock = ManualClock()
    async with open_service(parrot, clock=clock) as service:
        opened = [(await open_session(service)).session_id for _ in range(20)]
        acme, listed, after = service.tenant("acme", "k"), [], None
        while True:
            page, after = acme.sessions(limit=3, after=after)
            listed += [each.session_id for each in page]
            if after is None:
                break
        assert listed == opened
