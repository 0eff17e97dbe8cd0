"""The console script, and ``python -m stillhouse``.

Importing the command line takes a moment, and an interrupt during it has nothing to put down in order: until ``main`` takes
over, Ctrl-C simply ends the process.
"""

import gc
import os
import signal
import sys

# OpenMP's threads wait for each other by spinning; beside another busy process, whose turn it is then, they spin away most of
# what the machine has (`benchmarks/bench_busy_machine.py`). The library reads this when torch is loaded, so it stands here;
# a choice that the user made stays.
WAITING = ("OMP_WAIT_POLICY", "passive")


def entry() -> None:
    """Run the command line on this process's arguments."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.setdefault(*WAITING)  # noqa: TID251 - no setting of ours: the library reads it itself
    from stillhouse.cli.main import main

    code = main()
    gc.freeze()  # or the interpreter looks through everything for garbage once more: a quarter of a short command's time
    sys.exit(code)


if __name__ == "__main__":
    entry()
