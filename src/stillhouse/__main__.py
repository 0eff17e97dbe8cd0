"""The console script, and ``python -m stillhouse``.

Importing the command line takes a moment, and an interrupt during it has nothing to put down in order: until ``main`` takes
over, Ctrl-C simply ends the process.
"""

import gc
import signal
import sys


def entry() -> None:
    """Run the command line on this process's arguments."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from stillhouse.cli.main import main

    code = main()
    gc.freeze()  # or the interpreter looks through everything for garbage once more: a quarter of a short command's time
    sys.exit(code)


if __name__ == "__main__":
    entry()
