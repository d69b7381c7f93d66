"""Turns into another program that dies with the process that started it.

    python -I launch.py PARENT_PID SIGNAL USER COMMAND...

The kernel sends SIGNAL when the parent ends, however it ends. USER, unless empty, is who
to become first (PostgreSQL refuses to run as root). A program of its own rather than a
hook between fork and exec: such hooks may deadlock where the parent has threads.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Set up this process, then replace it."""
    parent, number, user, *command = sys.argv[1:]
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.environ["HOME"] = account.pw_dir
    # After the change of user, which would reset it; it survives the exec below.
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        sys.exit("the parent has already ended")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
