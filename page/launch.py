"""Turns into another program that dies with the process that started it.

    python -I launch.py PARENT_PID COMMAND...

The kernel ends it when the parent ends, however that ends; what it was doing is as after any
crash of a flow. A program of its own rather than a hook between fork and exec, since hooks may
deadlock where the parent has threads. Where the kernel is no Linux, it just runs.
"""

import ctypes
import os
import signal
import sys

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set up this process, then replace it."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            sys.exit("prctl(PR_SET_PDEATHSIG) failed")
        if os.getppid() != int(parent):
            sys.exit("the parent has ended already")
    os.execv(command[0], command)  # noqa: S606  # what the parent asks for


if __name__ == "__main__":
    main()
