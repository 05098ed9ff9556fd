"""`python -m frontdesk.cli`: the same as `frontdesk`."""

import os
import sys

# `-m` looks for modules where it was started, before everywhere else: `frontdesk` does not.
if sys.path[:1] == [os.getcwd()]:
    del sys.path[0]

from frontdesk.cli import main

main()
