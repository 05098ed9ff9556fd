"""A Pydantic AI agent as a team has it, that needs no network."""

from pydantic_ai import Agent

agent = Agent("test")
