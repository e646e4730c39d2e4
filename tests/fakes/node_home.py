"""A home for tests of the local node: fake engine environment, tiny weights, documents in its GitOps repository."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from serving.contracts.base import Metadata
from serving.contracts.observation import Side
from serving.contracts.release_spec import EngineSettings
from serving.contracts.route import Route, RouteBody, RouteEndpoint
from serving.files import digest_folder
from serving.gitops import GitOps, Snapshot
from serving.layout import route_path, service_path
from serving.release_documents import to_yaml
from serving.runtimes.inference_service import build_inference_service
from serving.settings import NexusSettings
from tests.fakes.gateway_process import free_port

MODEL = "m"
_FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
_TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "a": 1}, "unk_token": "<unk>"},
}


def fake_settings(home: Path) -> NexusSettings:
    """Make a home whose engine environment runs the fake engine in place of vLLM."""
    python = home / "envs" / "engine" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f'  *vllm.entrypoints*) shift 2; exec "{sys.executable}" -P "{_FAKE_ENGINE}" "$@" ;;\n'
        f'  *) exec "{sys.executable}" "$@" ;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    return NexusSettings(home=home.resolve(), gateway_port=free_port(), gateway_admin_port=free_port())


def write_model(folder: Path) -> Path:
    """Write the smallest folder that passes the weights check; no engine could compute with it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (folder / "tokenizer.json").write_text(json.dumps(_TOKENIZER))
    (folder / "tokenizer_config.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + os.urandom(256))
    return folder


def write_tiny_llama(folder: Path) -> Path:
    """Write a Llama of the demo's kind with random weights and its own tokenizer: vLLM serves it, saying nonsense."""
    hidden, middle, vocabulary, layers = 64, 128, 512, 2
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    for number in range(layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"model.layers.{number}.self_attn.{name}.weight"] = (hidden, hidden)
        shapes[f"model.layers.{number}.mlp.gate_proj.weight"] = (middle, hidden)
        shapes[f"model.layers.{number}.mlp.up_proj.weight"] = (middle, hidden)
        shapes[f"model.layers.{number}.mlp.down_proj.weight"] = (hidden, middle)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{number}.{name}.weight"] = (hidden,)
    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(7)
    tensors = {name: random.normal(0, 0.02, shape).astype(numpy.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": middle,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": vocabulary,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    _write_tokenizer(folder, vocabulary)
    return folder


def _write_tokenizer(folder: Path, vocabulary: int) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"question {number} about order {number * 7}" for number in range(500)], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    template = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    (folder / "chat_template.jinja").write_text(template)


def service_text(name: str, folder: Path, *, digest: str | None = None, **engine: Any) -> str:
    """Write an InferenceService that serves a folder; keywords are fields of EngineSettings."""
    return to_yaml(
        build_inference_service(
            service=name,
            model=MODEL,
            release_id=f"{MODEL}-000000000000",
            storage_uri=f"file://{folder}",
            weights_digest=digest or digest_folder(folder),
            engine=EngineSettings(**engine),
        )
    )


def route_text(service: str) -> str:
    """Write a route that sends everything to one service."""
    endpoint = RouteEndpoint(service=service, side=Side.STABLE, weight_percent=100)
    route = Route(kind="Route", metadata=Metadata(name=MODEL), spec=RouteBody(model=MODEL, endpoints=(endpoint,)))
    return json.dumps(route.model_dump(mode="json", exclude_none=True))


def commit_services(settings: NexusSettings, services: Mapping[str, str], routed: Sequence[str] = ()) -> str:
    """Make these, and no other, the desired services; the route goes to the first of `routed`."""

    def change(base: Snapshot) -> Mapping[str, str | None]:
        folder = str(Path(service_path(MODEL, "local", "x")).parent)
        files: dict[str, str | None] = dict.fromkeys(base.paths(folder))
        files |= {service_path(MODEL, "local", name): text for name, text in services.items()}
        route = route_path(MODEL, "local")
        if routed:
            files[route] = route_text(routed[0])
        elif base.read(route) is not None:
            files[route] = None
        return files

    commit = GitOps.of(settings).commit(change, "test", {"Nexus-Release": "test"})
    assert commit is not None
    return commit
