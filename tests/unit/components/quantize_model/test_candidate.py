"""What a candidate needs of its base is checked in the base's name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from components.quantize_model.candidate import Bench
from components.quantize_model.errors import BrokenWeightsError, RecipeError
from components.quantize_model.methods import METHODS
from components.quantize_model.worker_process import Answer
from components.quantize_model.workshop import Workshop
from serving.contracts.data_contract import DataRow, Message
from serving.settings import NexusSettings
from serving.step_cache import StepCache
from serving.weights_folder import read_weights
from tests.fakes.weights_folders import CONFIG, make_base


class FakeWorkshop:
    """Answers every order, or fails it."""

    def __init__(self, failure: str | None = None) -> None:
        self.orders: list[Mapping[str, object]] = []
        self._failure = failure

    def run(self, _environment: str | None, _program: Path, arguments: Mapping[str, object], **_: object) -> Answer:
        """Keep the order's arguments."""
        self.orders.append(arguments)
        if self._failure:
            raise RecipeError(self._failure)
        return Answer(None, 0.0, 0.0)


def make_bench(folder: Path, workshop: FakeWorkshop, config: Mapping[str, int]) -> Bench:
    base = make_base(folder / "base")
    (base / "config.json").write_text(json.dumps(CONFIG | config))
    row = DataRow(id="c0", intent="greeting", messages=(Message(role="user", content="hi"),), answer="hello")
    return Bench(
        settings=NexusSettings(home=folder),
        base=read_weights(base),
        base_digest="sha256:" + "0" * 64,
        rows=(row,),
        workshop=cast(Workshop, workshop),
        cache=StepCache(folder / "cache"),
        scratch=folder,
        output=folder / "out",
        methods=METHODS,
        say=lambda _: None,
    )


def test_calibration_is_rendered_once(tmp_path: Path) -> None:
    """All tools share one rendering: the conversation with its answer last, at most as long as the model reads."""
    workshop = FakeWorkshop()
    bench = make_bench(tmp_path, workshop, {"vocab_size": 8, "max_position_embeddings": 16})
    assert bench.tokens == bench.tokens
    assert len(workshop.orders) == 1
    assert workshop.orders[0]["max_tokens"] == 16
    rows = json.loads(Path(str(workshop.orders[0]["rows"])).read_text())
    assert rows == [[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]]


@pytest.mark.parametrize(("positions", "tokens"), [({}, 2048), ({"max_position_embeddings": 131072}, 2048)])
def test_long_models_calibrate_on_short_rows(tmp_path: Path, positions: dict[str, int], tokens: int) -> None:
    """A model that reads 128k tokens, or does not say, is calibrated on 2,048."""
    workshop = FakeWorkshop()
    assert make_bench(tmp_path, workshop, {"vocab_size": 8, **positions}).tokens
    assert workshop.orders[0]["max_tokens"] == tokens


def test_tokenizer_that_cannot_render_breaks_the_base(tmp_path: Path) -> None:
    """Every recipe would fail for it, so the base is named, not the recipe."""
    bench = make_bench(tmp_path, FakeWorkshop("ValueError: expected a chat template"), {"vocab_size": 8})
    with pytest.raises(BrokenWeightsError, match=r"base to render .*expected a chat template"):
        _ = bench.tokens
