"""A model is loaded exactly as configured, or the start stops and says why."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from consumer.embedding import EngineConfig, load_engine
from consumer.embedding.processor import computes_natively
from consumer.errors import Exit, Stop
from tests.tiny_model import TINY_DIMENSION, make_tiny_model


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("pristine") / "tiny")


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "tiny"))


def stopped(config: EngineConfig) -> str:
    with pytest.raises(Stop) as fault:
        load_engine(config)
    assert fault.value.exit_code in (Exit.USAGE, Exit.FAILED)
    return str(fault.value)


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def test_a_loaded_engine_says_what_it_is(pristine: Path) -> None:
    engine = load_engine(EngineConfig(str(pristine), device="cpu", token_budget=128))
    assert engine.dimension == engine.identity.dimension == TINY_DIMENSION
    assert (engine.device, engine.token_budget, engine.tokenizer.max_tokens) == ("cpu", 128, 256)
    assert engine.identity.describe()["pooling"] == "mean"
    assert len(engine.identity.config_hash) == 32


def test_nothing_is_asked_of_a_network(pristine: Path) -> None:
    connections: list[object] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("socket.connect", "socket.getaddrinfo"):
            connections.append(arguments)

    sys.addaudithook(hook)  # it cannot be removed again, only told to rest
    load_engine(EngineConfig(str(pristine))).embed([[2054]])
    watching = False
    assert connections == []


def test_loading_twice_gives_the_same_identity_wherever_the_folder_is(pristine: Path, folder: Path) -> None:
    one, other = (load_engine(EngineConfig(str(place))) for place in (pristine, folder))
    assert one.identity == other.identity
    assert (one.embed([[2054, 2003]]).vectors == other.embed([[2054, 2003]]).vectors).all()


def test_every_part_of_the_configuration_changes_the_hash(pristine: Path, tmp_path: Path) -> None:
    config = EngineConfig(str(pristine))
    other_weights = make_tiny_model(tmp_path / "a" / "tiny", seed=1)
    changed = [
        replace(config, document_prompt="passage: "),
        replace(config, query_prompt="query: "),
        *([replace(config, dtype="bfloat16")] if computes_natively("bfloat16") else []),
        replace(config, model=str(other_weights)),
    ]
    edit_json(
        Path(shutil.copytree(pristine, tmp_path / "b" / "tiny")) / "config.json", lambda c: c.update(hidden_act="relu")
    )
    changed.append(replace(config, model=str(tmp_path / "b" / "tiny")))
    identities = [load_engine(each).identity for each in [config, *changed]]
    assert len({identity.config_hash for identity in identities}) == len(identities)
    for identity in identities[1:]:
        differing = [name for name, part in identity.describe().items() if part != identities[0].describe()[name]]
        assert len(differing) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_format_that_the_processor_emulates_is_refused(pristine: Path, dtype: str) -> None:
    config = EngineConfig(str(pristine), device="cpu", dtype=dtype)
    if computes_natively(dtype):
        assert load_engine(config).identity.dtype == dtype
    else:
        assert f"embedding.dtype is {dtype}, but this processor does not compute with it" in stopped(config)


def test_the_processor_tells_what_it_computes_with(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 sse2\n")
    assert [computes_natively(dtype, told) for dtype in ("float32", "bfloat16", "float16")] == [True, True, False]
    told.write_text("processor\t: 0\nFeatures\t: fp asimd asimdhp\n")
    assert [computes_natively(dtype, told) for dtype in ("float32", "bfloat16", "float16")] == [True, False, True]
    assert not computes_natively("bfloat16", tmp_path / "missing")


def test_normalization_follows_the_settings(tmp_path: Path) -> None:
    plain = make_tiny_model(tmp_path / "plain", normalize=False)
    vector = load_engine(EngineConfig(str(plain), normalize=False)).embed([[2054]]).vectors[0]
    unit = load_engine(EngineConfig(str(plain), normalize=True)).embed([[2054]]).vectors[0]
    length = float((vector @ vector) ** 0.5)
    assert length != pytest.approx(1, abs=0.01)
    assert unit == pytest.approx(vector / length, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"normalize": False}, "normalize"),
        ({"dtype": "int8"}, "int8"),
        ({"device": "tpu"}, "tpu"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"document_prompt": "runs into"}, "runs into"),
        ({"query_prompt": "runs into"}, "runs into"),
    ],
)
def test_settings_that_the_model_cannot_follow_stop_the_start(
    pristine: Path, change: dict[str, Any], named: str
) -> None:
    assert named in stopped(replace(EngineConfig(str(pristine)), **change))


def test_pickled_weights_are_refused(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "pickled" in stopped(EngineConfig(str(folder)))


def test_pickles_of_a_later_module_are_refused(folder: Path) -> None:
    (folder / "3_Dense").mkdir()
    (folder / "3_Dense" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    module = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    edit_json(folder / "modules.json", lambda modules: modules.append(module))
    assert "pickled" in stopped(EngineConfig(str(folder)))


def test_no_weights_at_all_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights" in stopped(EngineConfig(str(folder)))


def test_a_missing_weight_is_refused_and_not_made_up(folder: Path) -> None:
    lost = "encoder.layer.1.output.dense.weight"
    edit_weights(folder / "model.safetensors", lambda weights: weights.pop(lost))
    assert lost in stopped(EngineConfig(str(folder)))


def test_weights_without_a_pooler_and_under_a_wrappers_prefix_are_complete(pristine: Path, folder: Path) -> None:
    def wrap(weights: dict[str, torch.Tensor]) -> None:
        for key in list(weights):
            tensor = weights.pop(key)
            if "pooler" not in key:
                weights[f"bert.{key}"] = tensor

    edit_weights(folder / "model.safetensors", wrap)
    one, other = (load_engine(EngineConfig(str(place))) for place in (pristine, folder))
    assert (one.embed([[2054]]).vectors == other.embed([[2054]]).vectors).all()


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    def shorten(weights: dict[str, torch.Tensor]) -> None:
        weights["encoder.layer.0.output.dense.bias"] = torch.zeros(7)

    edit_weights(folder / "model.safetensors", shorten)
    assert "cannot be loaded" in stopped(EngineConfig(str(folder)))


def test_a_damaged_weight_file_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "tiny" in stopped(EngineConfig(str(folder)))


@pytest.mark.parametrize(
    ("file", "part"), [("model.safetensors", "weights_sha256"), ("tokenizer.json", "setup_sha256")]
)
def test_one_changed_byte_makes_it_another_model(pristine: Path, folder: Path, file: str, part: str) -> None:
    """What the store then refuses by name: it holds vectors of another."""
    path = folder / file
    content = bytearray(path.read_bytes())
    if file.endswith(".json"):
        content += b" "
    else:
        content[-3] ^= 1
    path.write_bytes(content)
    one, other = (load_engine(EngineConfig(str(place))).identity for place in (pristine, folder))
    assert one.config_hash != other.config_hash
    before, after = one.describe(), other.describe()
    assert [name for name in before if before[name] != after[name]] == [part]


def test_a_model_that_brings_code_is_refused(folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    edit_json(folder / "modules.json", lambda modules: modules[1].update(type="evil.Pooling"))
    assert "cannot be loaded" in stopped(EngineConfig(str(folder)))


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "evil.Thing", "AutoModel": "evil.Thing"}}),
        ("config.json", {"auto_map": {"AutoConfig": "evil.Thing"}, "model_type": "evil"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Thing", "evil.Thing"]}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Thing", None]}, "tokenizer_class": "Thing"}),
    ],
)
def test_code_that_a_configuration_names_is_never_run(folder: Path, file: str, names: dict[str, Any]) -> None:
    """Whether the rest of the folder can be loaded without it or not."""
    ran = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Thing: ...\n")
    edit_json(folder / file, lambda content: content.update(names))
    with suppress(Stop):
        load_engine(EngineConfig(str(folder))).embed([[2054]])
    assert not ran.exists()


@pytest.mark.parametrize("content", [None, "{", "[{}]", '{"a": 1}'])
def test_a_folder_without_a_readable_layout_is_refused(folder: Path, content: str | None) -> None:
    if content is None:
        (folder / "modules.json").unlink()
    else:
        (folder / "modules.json").write_text(content)
    assert "modules.json" in stopped(EngineConfig(str(folder)))
