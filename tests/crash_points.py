"""SIGKILL at a named moment: the process ends itself as it enters or leaves a function of the product.

The product knows nothing of it. The interpreter's profiling hook watches every thread and changes nothing; the kill is
as sudden as one from outside, and hits exactly where it is meant to.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

VARIABLE = "EMBED_TEST_CRASH_AT"  # <file>:<function>:call|return:<the how-manieth>


def arm(point: str | None) -> None:
    """Die at the point, if there is one. Threads that run already are not watched."""
    if not point:
        return
    file, function, moment, count = point.rsplit(":", 3)
    left = int(count)

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal left
        code = frame.f_code
        if event == moment and code.co_qualname == function and code.co_filename.endswith(file):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(watch)
    sys.setprofile(watch)
