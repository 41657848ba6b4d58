"""A fault in words, on stderr."""

from __future__ import annotations

import sys

from consumer.errors import Fault


def tell(fault: Fault) -> None:
    """What, why and what to do, a line each, without secrets."""
    from consumer.observe import mask_secrets

    print(mask_secrets("\n".join(part for part in (fault.what, fault.why, fault.fix) if part)), file=sys.stderr)
