"""Which number formats this processor computes with by itself; the others are emulated, slower than float32."""

from __future__ import annotations

from pathlib import Path

_FLAGS = {
    "float32": frozenset[str](),
    "bfloat16": frozenset({"avx512_bf16", "amx_bf16", "bf16"}),  # the last is Arm's
    "float16": frozenset({"avx512_fp16", "amx_fp16", "asimdhp"}),
}


def computes_natively(dtype: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for `dtype`; False too where the system does not tell."""
    if not (wanted := _FLAGS[dtype]):
        return True
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    told = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not wanted.isdisjoint(told.partition(":")[2].split())
