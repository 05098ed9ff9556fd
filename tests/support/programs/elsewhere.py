"""The command line on a system that lacks what the environment names: `LACKING=prctl,pidfds`."""

import os

from support.lacking import take_away

take_away(os.environ["LACKING"].split(","))

from frontdesk.cli import main  # noqa: E402 - after what it is for

if __name__ == "__main__":
    main()
