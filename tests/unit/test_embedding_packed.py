"""Linear layers laid out for the processor: the same numbers, whatever kind of model they are in."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, T5Config, T5EncoderModel

from consumer.embedding.packed import PackedLinear, available, pack

pytestmark = pytest.mark.skipif(not available(), reason="torch has no oneDNN for this processor")

BERT = BertConfig(vocab_size=100, hidden_size=384, num_hidden_layers=2, num_attention_heads=4, intermediate_size=1536)
T5 = T5Config(vocab_size=100, d_model=384, d_kv=16, d_ff=1536, num_layers=2, num_heads=4)  # asks layers for their type
MODERN = ModernBertConfig(
    vocab_size=100, hidden_size=384, num_hidden_layers=2, num_attention_heads=4, intermediate_size=1536,
    pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "config"),
    [(BertModel, BERT), (T5EncoderModel, T5), (ModernBertModel, MODERN)],
    ids=["bert", "t5", "modern"],
)
@torch.inference_mode()
def test_a_packed_model_computes_the_same(model: type[torch.nn.Module], config: object) -> None:
    torch.manual_seed(7)
    plain = model(config).eval()
    packed = copy.deepcopy(plain)
    pack(packed)

    ids = torch.randint(5, 100, (3, 40))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    before, after = (each(input_ids=ids, attention_mask=mask)[0] for each in (plain, packed))
    assert not any(type(module) is torch.nn.Linear for module in packed.modules())
    assert torch.nn.functional.cosine_similarity(before, after, dim=-1).min() > 0.999999
    assert (before - after).abs().max() < 1e-4


def test_a_packed_layer_keeps_shape_and_type_and_no_second_copy_of_its_weights() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(8, 4, bias=False))
    pack(layer)
    (packed,) = layer
    assert isinstance(packed, PackedLinear)
    assert (packed.weight.shape, packed.weight.dtype, packed.weight.device.type) == ((4, 8), torch.float32, "meta")
    assert sum(parameter.numel() for parameter in layer.parameters() if parameter.device.type != "meta") == 0
