"""What the tests share, by subject: agents, processes, sessions, waiting, leftovers, programs."""
