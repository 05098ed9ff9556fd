"""Agents that speak the Agent Client Protocol: the blueprint kind `acp`.

`blueprint.py` starts one for each session; `agent.py` runs turns in the session that
`agent_session.py` opens, or has given back: with `model_choice.py` (which model answers),
`agent_settings.py` (modes and other options) and `mcp_servers.py`. `prompt_blocks.py` has what
comes with a prompt. `updates.py` turns what the agent reports into events, with `tool_calls.py`,
`permissions.py` (what a client is shown) and `token_counts.py`; `client_methods.py` answers what
it asks for, with `elicitations.py`,
`workdir.py` (files) and `terminals.py`; `own_directory.py` is removed with the session. Messages
go through `connection.py` (an end is noticed; `agent_answers.py` says what an answer may be) over
`transport.py` (bounds), which reads them by `lines.py` and `parsing.py`.
"""
