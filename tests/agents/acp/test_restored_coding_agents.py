"""Coding agents that people have, over a restart of the whole service: what they know after it.

One turn in a service whose conversations are stored, which is closed as a process ends; one more
in the next service on the same directory, and a last one in a third, when the agent has lost what
it had in its home. The model on loopback tells what it was sent.
"""

import asyncio
import shutil
from dataclasses import dataclass

import pytest

from frontdesk.keeper.client import Keeper
from gateway.requirements import covers
from support.acp import acp, place_for_places
from support.coding_agents import CODING_AGENTS
from support.model_server import COMPLETION_TOKENS, PROMPT_TOKENS, ModelServer
from support.sessions import Stream, data_of, names, open_session, text
from support.stored_services import found, stored

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BOUND_S = 120
MARMALADE, AGAIN = "say yes, and keep marmalade in mind", "say yes again"
AT_LAST = "say yes at last"
TOLD = "What was said and done before, in this conversation:"
TURN = ["prompt_received", "agent_start", "message_start", "message_delta", "agent_end"]
TRIED = ("opencode", "vibe")
"""Those that begin within seconds, and whose tokens are counted in different ways."""


@dataclass(frozen=True)
class Restart:
    """What was found of one agent: the whole log as each life read it, and the model's calls."""

    agent: object
    before: list
    after: list
    lost: list
    calls: list

    def sent_with(self, prompt):
        """Return what the model was sent for a turn: not for titles, memories and the like."""
        calls = [call for call in self.calls if call.tools]
        (sent,) = [str(call.body) for call in calls if call.text.rstrip().endswith(prompt)]
        return sent


async def yes(_):
    yield "yes"


@pytest.fixture(scope="module", params=TRIED)
def restart(request, tmp_path_factory):
    (agent,) = [each for each in CODING_AGENTS if each.name == request.param]
    place = tmp_path_factory.mktemp(agent.name)
    home = place / "homes" / "acme"
    for directory in (home, place / "acme" / "project"):
        directory.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, place_for_places(), ModelServer(yes) as server:
        environment = agent.environment(server.url, home)
        for name, value in environment.items():
            patch.setenv(name, value)
        options = {"env": tuple(environment), "homes": place / "homes", **agent.settings}
        before = asyncio.run(life(agent, place, begun, MARMALADE, **options))
        after = asyncio.run(life(agent, place, found, AGAIN, **options))
        shutil.rmtree(home)
        home.mkdir()
        agent.environment(server.url, home)
        lost = asyncio.run(life(agent, place, found, AT_LAST, **options))
    return Restart(agent, before, after, lost, server.calls)


async def life(agent, place, session_in, prompt, **options):
    """Have one turn in a service of its own; return the session's whole log."""
    async with Keeper() as keeper:
        command = agent.command(agent.version)
        coder = acp(keeper, command, start_timeout_s=BOUND_S, **options)
        async with stored(place, coder, tenants_root=place) as service:
            conversation = await session_in(service)
            stream = Stream(conversation, bound_s=BOUND_S)
            request_id = conversation.prompt(prompt).request_id
            ended = None
            while ended != request_id:
                *_, last = await stream.until("agent_end", "agent_abort")
                ended = data_of(last)["requestId"]
            stream.close()
        assert not len(keeper), "a process is left"
    return stream.events


async def begun(service):
    return await open_session(service, session_id="s-1", working_dir="project", model="default")


@covers("durable.memory-is-honest")
def test_it_has_its_session_back_and_that_is_told(restart):
    assert restart.agent.restart == "its session back"
    (restarted,) = [data_of(each) for each in restart.after if each.name == "agent_restarted"]
    assert (restarted["reason"], restarted["memory"]) == ("shutdown", "kept")


@covers("durable.replay-is-no-event")
def test_the_log_is_that_of_the_two_turns(restart):
    assert names(restart.before) == TURN
    assert names(restart.after) == [*TURN, "agent_restarted", *TURN]
    before = [(each.id, data_of(each)) for each in restart.before]
    assert [(each.id, data_of(each)) for each in restart.after[: len(TURN)]] == before
    assert text(restart.after) == "yesyes"


def test_the_model_is_sent_what_was_said_before_once_and_as_the_agent_knows_it(restart):
    sent = restart.sent_with(AGAIN)
    assert sent.count(MARMALADE) == 1
    assert TOLD not in sent


def test_the_tokens_of_the_turn_before_are_not_counted_again(restart):
    ended = [data_of(each) for each in restart.after if each.name == "agent_end"]
    used = [each["tokenUsage"]["totalTokens"] for each in ended]
    assert used == [PROMPT_TOKENS + COMPLETION_TOKENS] * 2


@covers("durable.memory-is-honest")
def test_without_its_session_it_is_told_what_was_said_and_that_is_told(restart):
    assert names(restart.lost) == [*names(restart.after), "agent_restarted", *TURN]
    memories = [data_of(each)["memory"] for each in restart.lost if each.name == "agent_restarted"]
    assert memories == ["kept", "rebuilt"]
    sent = restart.sent_with(AT_LAST)
    assert TOLD in sent
    assert (sent.count(MARMALADE), sent.count(AGAIN)) == (1, 1)
