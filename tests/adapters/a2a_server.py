"""A real A2A 1.0 agent on loopback, made with the protocol's SDK: what it does, a test scripts."""

import asyncio
import threading
from contextlib import asynccontextmanager

import uvicorn
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Task,
    TaskState,
    TaskStatus,
)
from starlette.applications import Starlette


class Scripted(AgentExecutor):
    """Do what `script` says, an async function of a request and the updater of its task.

    With `tasks`, each request is made a task at once. `asked` are the requests so far, `cancelled`
    the tasks that a client had cancelled.
    """

    def __init__(self, script, *, tasks=True):
        self.script, self._tasks = script, tasks
        self.asked, self.cancelled = [], []

    async def execute(self, context, event_queue):
        self.asked.append(context)
        if self._tasks and context.current_task is None:
            status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
            await event_queue.enqueue_event(
                Task(id=context.task_id, context_id=context.context_id, status=status)
            )
        await self.script(context, TaskUpdater(event_queue, context.task_id, context.context_id))

    async def cancel(self, context, event_queue):
        self.cancelled.append(context.task_id)
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class A2AServer:
    """What a test sees of the agent: its address, what it did, and the headers that came."""

    def __init__(self, executor):
        self.executor = executor
        self.headers = []
        self.url = ""

    @property
    def prompts(self):
        """Return what was said to it."""
        return [context.get_user_input() for context in self.executor.asked]


@asynccontextmanager
async def a2a_server(script, *, streaming=True, interface=None, tasks=True, listening=None):
    """Serve an agent, in a thread; `interface` is what its card names for its own address."""
    executor = Scripted(script, tasks=tasks)
    served = A2AServer(executor)
    config = uvicorn.Config(lambda *_: None, port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    socket = listening or config.bind_socket()
    served.url = f"http://127.0.0.1:{socket.getsockname()[1]}"
    card = AgentCard(
        name="remote",
        description="a remote agent",
        version="1",
        supported_interfaces=[
            AgentInterface(
                url=interface or f"{served.url}/rpc",
                protocol_binding="JSONRPC",
                protocol_version="1.0",
            )
        ],
        capabilities=AgentCapabilities(streaming=streaming),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        skills=[AgentSkill(id="any", name="any", description="any", tags=["any"])],
    )
    handler = DefaultRequestHandler(executor, InMemoryTaskStore(), card)
    app = Starlette(
        routes=[*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/rpc")]
    )

    async def noting(scope, receive, send):
        if scope["type"] == "http":
            served.headers.append(dict(scope["headers"]))
        await app(scope, receive, send)

    config.app = noting
    # With a loop of its own: what it has under way is nothing that a session left behind.
    thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()
