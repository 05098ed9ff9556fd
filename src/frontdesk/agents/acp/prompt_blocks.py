"""A prompt as the protocol's content blocks, and which attachments an agent has announced it takes.

What it has not announced is not sent: agents drop such blocks in silence.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import quote

from acp.schema import (
    AudioContentBlock,
    BlobResourceContents,
    EmbeddedResourceContentBlock,
    ImageContentBlock,
    PromptCapabilities,
    ResourceContentBlock,
    TextContentBlock,
    TextResourceContents,
)

from frontdesk.agents.attachments import TEXTS, Attachment

ATTACHMENTS = ("image/*", "audio/*", *TEXTS)
"""Patterns of the types that may come with a prompt, unless the operator says others. Agents that
take embedded files at all do not therefore read what is no text."""

PromptBlock = (
    TextContentBlock
    | ImageContentBlock
    | AudioContentBlock
    | ResourceContentBlock
    | EmbeddedResourceContentBlock
)


def takes(capabilities: PromptCapabilities | None, media_type: str) -> bool:
    """Say whether an agent with these capabilities takes a type."""
    if capabilities is None:
        return False
    first = media_type.partition("/")[0]
    announced = {"image": capabilities.image, "audio": capabilities.audio}
    return bool(announced.get(first, capabilities.embedded_context))


def prompt_blocks(text: str, attachments: Iterable[Attachment] = ()) -> list[PromptBlock]:
    """Return the blocks of a prompt: its text, and a block for each attachment."""
    return [TextContentBlock(type="text", text=text), *map(_block, attachments)]


def _block(attachment: Attachment) -> PromptBlock:
    uri = f"attachment:///{quote(attachment.name)}"
    mime_type, first = attachment.media_type, attachment.media_type.partition("/")[0]
    if attachment.text is not None:
        text = TextResourceContents(uri=uri, mime_type=mime_type, text=attachment.text)
        return EmbeddedResourceContentBlock(type="resource", resource=text)
    data = base64.b64encode(attachment.content).decode()
    if first == "image":
        return ImageContentBlock(type="image", data=data, mime_type=mime_type, uri=uri)
    if first == "audio":
        return AudioContentBlock(type="audio", data=data, mime_type=mime_type)
    blob = BlobResourceContents(uri=uri, mime_type=mime_type, blob=data)
    return EmbeddedResourceContentBlock(type="resource", resource=blob)
