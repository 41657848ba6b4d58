"""Linear layers with weights laid out for the processor, once, when the model is loaded.

On a CPU torch multiplies float32 with MKL, which does not use AVX-512 on processors of other makers, and in every call
lays the weights out anew. oneDNN, which is part of torch too, does neither: on two cores of an AMD EPYC it reached 465
GFLOP/s where MKL reached 200, in the shapes of MiniLM. Sums are taken in another order; nothing else differs.

oneDNN compiles code for each number of rows that it meets, and keeps it, 0.3 MiB each: see `budget.padded`.
"""

from __future__ import annotations

import platform

import torch


def available(dtype: torch.dtype = torch.float32) -> bool:
    """Whether torch comes with oneDNN for this processor, and it was tried with these numbers."""
    built_in: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built_in and platform.machine().lower() in ("x86_64", "amd64") and dtype in (torch.float32, torch.bfloat16)


def pack(model: torch.nn.Module) -> None:
    """Replace the linear layers of a model on a CPU, in place, where oneDNN is `available`."""
    for name, child in model.named_children():
        if type(child) is torch.nn.Linear:
            setattr(model, name, PackedLinear(child))
        else:
            pack(child)


class PackedLinear(torch.nn.Module):
    """A `Linear` that can only be applied. `weight` tells shape and type, as some models ask for, and holds nothing."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        self.weight = torch.empty_like(linear.weight, device="meta", requires_grad=False)
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (…, in) to (…, out)."""
        rows = x.reshape(-1, x.shape[-1])
        made: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, "none", [], "")
        return made.reshape(*x.shape[:-1], -1)
