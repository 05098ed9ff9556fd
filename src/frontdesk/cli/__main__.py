"""`python -m frontdesk.cli`: the same as `frontdesk`."""

from frontdesk.cli import main

main()
