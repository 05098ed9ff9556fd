"""The keeper: one small process that spawns every agent process and sees to it that none is left.

Below the agents that run in processes, above nothing of ours but the errors. The package has two
sides. In the gateway: `client.py` (`Keeper`) and `kept.py` (`KeptProcess`). In the keeper itself:
`__main__.py`, `house.py` and what they lean on, single-threaded and with the standard library and
msgspec only. Both sides share `orders.py` (what they say to each other) and `packets.py` (how).
It knows nothing of sessions, turns or blueprints: it keeps processes.
"""
