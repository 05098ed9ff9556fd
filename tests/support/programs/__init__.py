"""Programs that the tests start: agents, children of the keeper, a gateway to kill."""
