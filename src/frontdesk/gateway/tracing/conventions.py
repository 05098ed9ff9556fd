"""Every name in our spans: of OpenTelemetry's conventions, and the few of our own.

Of generative AI those of semantic-conventions-genai 0.1.0 (in development: they change, and then
they change here only), `docs/gen-ai`; of HTTP the stable ones of semantic-conventions 1.45.0,
`docs/http/http-spans.md`. Written down here, as the package that has them changes with every
release.
"""

from __future__ import annotations

from typing import Final

# -- generative AI -----------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"

AGENT_NAME: Final = "gen_ai.agent.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"

# What is said: opt-in there, and here.
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"

PROVIDERS: Final = {
    "anthropic": "anthropic",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "google": "gcp.gemini",
    "google-gla": "gcp.gemini",
    "google-vertex": "gcp.vertex_ai",
    "grok": "x_ai",
    "groq": "groq",
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "openai": "openai",
}
"""The provider that a model's name begins with (`openai:gpt-5`), as the conventions call it."""

# -- HTTP, and everything -----------------------------------------------------------------------

METHOD: Final = "http.request.method"
METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"}
)
OTHER: Final = "_OTHER"
"""For what is none of the known ones: anybody's words, in any number."""
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
SCHEME: Final = "url.scheme"
PATH: Final = "url.path"
CLIENT_ADDRESS: Final = "client.address"
PROTOCOL_VERSION: Final = "network.protocol.version"
ERROR_TYPE: Final = "error.type"

# -- our own ------------------------------------------------------------------------------------

QUEUE_SECONDS: Final = "frontdesk.queue_seconds"
"""From the acceptance of the prompt to its turn."""
TENANT: Final = "frontdesk.tenant"
REQUEST_ID: Final = "frontdesk.request_id"
"""The turn, as events and the log call it."""


def provider_of(model: str) -> str | None:
    """Return the provider that a model's name begins with; None where it begins with none.

    >>> provider_of("openai:gpt-5"), provider_of("gpt-5")
    ('openai', None)
    """
    before, colon, _ = model.partition(":")
    return PROVIDERS.get(before) if colon else None


def attribute_text(text: str, *, limit: int = 500) -> str:
    """Return a text as an attribute may have it: bounded, and such that it can be encoded."""
    return text[:limit].encode("utf-8", "replace").decode()
