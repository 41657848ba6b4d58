"""One line of the doctor's answer, and how a question that fails becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from consumer.errors import Exit, Fault, Retry, Stop

Verdict = Literal["pass", "warn", "fail", "skip"]

NTP = "Let NTP (chrony, systemd-timesyncd) set the clocks of both machines."


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is one sentence about `check`; `fix` is what to do, empty where nothing is to be done.

    `warn`: works, but is risky. `skip`: was not checked, and why. `unreachable`: a dependency did not answer.
    """

    check: str
    verdict: Verdict
    what: str
    fix: str = ""
    unreachable: bool = False


def passed(check: str, what: str) -> Finding:
    """All is well."""
    return Finding(check, "pass", what)


def warned(check: str, what: str, fix: str) -> Finding:
    """It works, but is risky."""
    return Finding(check, "warn", what, fix)


def failed(check: str, what: str, fix: str) -> Finding:
    """It does not work, or loses something."""
    return Finding(check, "fail", what, fix)


def skipped(check: str, why: str, fix: str = "") -> Finding:
    """Nothing is known of it."""
    return Finding(check, "skip", why, fix)


def faulty(check: str, fault: Fault) -> Finding:
    """The question itself failed."""
    unreachable = isinstance(fault, Retry) or (isinstance(fault, Stop) and fault.exit_code is Exit.UNREACHABLE)
    return Finding(check, "fail", " ".join(filter(None, (fault.what, fault.why))), fault.fix, unreachable)


def asked(check: str, ask: Callable[[], Finding | Iterable[Finding]]) -> Iterator[Finding]:
    """What the question brings; its fault is a finding too, so that the questions after it are asked."""
    try:
        found = ask()
        yield from [found] if isinstance(found, Finding) else found
    except Fault as fault:
        yield faulty(check, fault)


def exit_code(findings: Iterable[Finding]) -> Exit:
    """0 where nothing fails, 3 where a dependency did not answer, else 1."""
    fails = [finding for finding in findings if finding.verdict == "fail"]
    if any(finding.unreachable for finding in fails):
        return Exit.UNREACHABLE
    return Exit.FAILED if fails else Exit.DONE
