"""The console script, and ``python -m stillhouse``.

Importing the command line takes a moment, and an interrupt during it has nothing to put down in order: until ``main`` takes
over, Ctrl-C simply ends the process.
"""

import gc
import os
import signal
import sys

# OpenMP's threads wait for each other by spinning; beside another busy process, whose turn it is then, they spin away most of
# what the machine has. Without spinning, an idle machine loses a quarter at small batches. A thousand turns, some microseconds,
# are as quick as spinning there and quicker than either beside other work (`benchmarks/bench_busy_machine.py`). GNU's library,
# which torch brings, reads this when it is loaded, so it stands here; a choice that the user made stays.
WAITING = ("GOMP_SPINCOUNT", "1000")
CHOSEN_BY = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


# Rows by the hundred thousand are made and gone without a circle among them: looking for garbage at every 700 new objects costs a
# tenth of an import.
GARBAGE = (50_000, 20, 50)


def entry() -> None:
    """Run the command line on this process's arguments."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not any(name in os.environ for name in CHOSEN_BY):  # noqa: TID251 - no setting of ours: the library reads it itself
        os.environ[WAITING[0]] = WAITING[1]  # noqa: TID251
    gc.set_threshold(*GARBAGE)
    from stillhouse.cli.main import main

    code = main()
    gc.freeze()  # or the interpreter looks through everything for garbage once more: a quarter of a short command's time
    sys.exit(code)


if __name__ == "__main__":
    entry()
