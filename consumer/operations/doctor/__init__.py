"""`doctor`: each dependency and what the pipeline needs of it, judged, with what to do. Changes nothing.

One module a dependency: `look` asks, the `judge_…` functions decide on plain data. All are asked at the same time, each
in a thread of its own with an end: what hangs is a finding like any other and hides no other.
"""

from consumer.operations.doctor.examine import examine
from consumer.operations.doctor.finding import Finding, Verdict, exit_code

__all__ = ["Finding", "Verdict", "examine", "exit_code"]
