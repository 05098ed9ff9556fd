"""The A2A SDK's server with its tasks in memory, and an agent of one word."""

from __future__ import annotations

from a2a.helpers import new_task_from_user_message, new_text_status_update_event
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, TaskState
from starlette.applications import Starlette

from bench.other_servers import WORD, serve


class Parrot(AgentExecutor):
    """Say one word, and ask for more input: the task stays open, as a session does."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        task = context.current_task or new_task_from_user_message(context.message)
        if context.current_task is None:
            await event_queue.enqueue_event(task)
        await event_queue.enqueue_event(
            new_text_status_update_event(
                task_id=task.id,
                context_id=task.context_id,
                state=TaskState.TASK_STATE_INPUT_REQUIRED,
                text=WORD,
            )
        )

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


CARD = AgentCard(
    name="parrot",
    description="Says one word.",
    version="1",
    capabilities=AgentCapabilities(streaming=True),
    supported_interfaces=[AgentInterface(protocol_binding="JSONRPC", url="http://127.0.0.1/")],
)

if __name__ == "__main__":
    answering = DefaultRequestHandler(
        agent_executor=Parrot(), task_store=InMemoryTaskStore(), agent_card=CARD
    )
    serve(Starlette(routes=create_jsonrpc_routes(answering, rpc_url="/")))
