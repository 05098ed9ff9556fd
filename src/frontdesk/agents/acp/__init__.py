"""Agents that speak the Agent Client Protocol: the blueprint kind `acp`.

`blueprint.py` starts one for each session; `agent.py` opens the agent's session and runs turns;
`updates.py` turns what it reports into events, with `tool_calls.py`, `permissions.py` (what a
client is shown) and `token_counts.py`; `client_methods.py` answers what it asks for, with
`workdir.py` (files) and `terminals.py`; `own_directory.py` is removed with the session, and
`model_choice.py` is which model answers. Messages go through `connection.py` (an end is noticed;
`agent_answers.py` says what an answer may be) over `transport.py` (bounds), which reads them by
`lines.py` and `parsing.py`.
"""
