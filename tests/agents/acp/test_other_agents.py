"""The example agent of the protocol's makers, on its TypeScript SDK, installed when needed."""

import shutil

import pytest

from support.acp import open_acp_session
from support.installed import EXAMPLE_AGENT, from_npm, missing
from support.sessions import Stream, data_of, names, text

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]

START_S = 120
PATIENCE_S = 120


@pytest.fixture
def example_agent():
    """The command line of the example agent of the protocol's TypeScript SDK."""
    node = shutil.which("node") or missing("node")
    return (node, str(from_npm(*EXAMPLE_AGENT) / "dist" / "examples" / "agent.js"))


@pytest.mark.parametrize(
    ("deed", "said"), [("approve", "changes have been applied"), ("reject", "skip the configur")]
)
async def test_the_example_agent_asks_and_goes_on_with_the_answer(example_agent, deed, said):
    async with open_acp_session(example_agent, start_timeout_s=START_S) as conversation:
        stream = Stream(conversation, bound_s=PATIENCE_S)
        conversation.prompt("tidy up")
        asked = data_of((await stream.until("approval_required"))[-1])
        assert asked["toolName"] == "Modifying critical configuration file"
        assert asked["args"]["path"] == "/home/user/project/config.json"
        getattr(conversation, deed)(asked["approvalId"])
        await stream.until("agent_end", "agent_abort")
        stream.close()
        assert said in text(stream.events)
        ended = [data_of(each) for each in stream.events if each.name == "tool_execution_end"]
        assert ended[0]["result"] == {"content": "# My Project\n\nThis is a sample project..."}
        assert names(stream.events)[-1] == "agent_end"


async def test_the_example_agent_is_aborted_and_asked_again(example_agent):
    options = {"start_timeout_s": START_S, "service": {"abort_grace_s": 60}}
    async with open_acp_session(example_agent, **options) as conversation:
        for _ in range(2):
            stream = Stream(conversation, since=None, from_now=True, bound_s=PATIENCE_S)
            conversation.prompt("tidy up")
            await stream.until("message_delta")
            conversation.abort("enough")
            events = await stream.until("agent_abort")
            stream.close()
            assert data_of(events[-1])["reason"] == "enough"
