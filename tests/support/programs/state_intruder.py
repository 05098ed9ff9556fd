"""Try to get at a directory in every way that there is, and say as JSON how each went.

Arguments: the directory, a working directory, and `mount` or `landlock`: which way of hiding it the
process may use on itself, or `none` where somebody else has hidden it already.
"""

import json
import os
import sys

from frontdesk.keeper import capabilities
from frontdesk.keeper.hidden_directory import HiddenDirectory, enter_domain_without


def attempts(state, work):
    """Return what is tried, by name."""
    secret = f"{state}/master.secret"
    return {
        "read": lambda: open(secret).close(),
        "read by the process's root": lambda: open(f"/proc/self/root{secret}").close(),
        "read by a link": lambda: read_by_a_link(secret, work),
        "write": lambda: open(secret, "a").close(),
        "cut short": lambda: os.truncate(secret, 0),
        "remove": lambda: os.unlink(secret),
        "make": lambda: open(f"{state}/new", "w").close(),
        "make a directory": lambda: os.mkdir(f"{state}/processes/new"),
        "journal": lambda: open(f"{state}/processes/1.keeper", "a").close(),
        "link out": lambda: os.link(secret, f"{work}/linked"),
        "move out": lambda: os.rename(secret, f"{work}/moved"),
        "move in": lambda: os.rename(f"{work}/mine", secret),
        "move the directory": lambda: os.rename(state, f"{state}-moved"),
        "move the directory away": lambda: os.rename(state, f"{work}/moved"),
        "remove the directory": lambda: os.rmdir(state),
        "leave by a directory's parent": lambda: open(f"{work}/../state/master.secret").close(),
    }


def read_by_a_link(secret, work):
    os.symlink(secret, f"{work}/link")
    open(f"{work}/link").close()


def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return error.strerror
    return "done"


def main():
    state, work, way = sys.argv[1:]
    problem = None
    if way == "landlock":
        capabilities.drop()  # without them nothing is mounted
    if way != "none":
        hidden = HiddenDirectory.for_agent(state, environment=os.environ, cwd=work)
        problem = enter_domain_without(hidden)
        capabilities.drop()
    went = {name: outcome(attempt) for name, attempt in attempts(state, work).items()}
    sys.stdout.write(json.dumps({"problem": problem, "went": went}))


if __name__ == "__main__":
    main()
