"""`embed-consumer`: parse, build, call. What a user can cause ends in words and an exit code, never in a traceback."""

from __future__ import annotations

import sys
from typing import NoReturn

from consumer.errors import Exit, Fault, Retry, Stop


def main() -> NoReturn:
    """The console script."""
    from consumer.cli.app import app

    try:
        app(prog_name="embed-consumer")  # ends the process itself: 0, 2 for wrong usage, 130 for Ctrl-C
    except Stop as stop:
        _say(stop)
        sys.exit(stop.exit_code)
    except Retry as retry:
        _say(retry)
        sys.exit(Exit.UNREACHABLE)
    except Fault as fault:
        _say(fault)
        sys.exit(Exit.FAILED)
    except BrokenPipeError:  # the reader of stdout went away: `| head`
        sys.stderr.close()
    sys.exit(Exit.DONE)


def _say(fault: Fault) -> None:
    from consumer.observe import mask_secrets

    print(mask_secrets("\n".join(part for part in (fault.what, fault.why, fault.fix) if part)), file=sys.stderr)
