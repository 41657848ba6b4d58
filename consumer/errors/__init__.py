"""Every fault, typed by what the caller must decide, and the one way to wait for what may pass."""

from consumer.errors.faults import Exit, Fault, Reject, Retry, Stop
from consumer.errors.patience import Abandoned, backoff, patiently

__all__ = ["Abandoned", "Exit", "Fault", "Reject", "Retry", "Stop", "backoff", "patiently"]
