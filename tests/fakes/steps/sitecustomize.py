"""On PYTHONPATH of a pipeline's processes: replaces the steps that train, serve and measure by small fakes.

What is real: kfp's runner, every `component.py`, the wiring, registration, deployment, conclusion, git and MLflow.
`FAKE_STEPS` is JSON: `passed` and `decision`, and `fail` or `sleep` name a step that fails or waits for its kill.
"""
# ruff: noqa: PLC0415 - nothing of ours may be imported before the fakes are in place

import importlib.abc
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

PLAN = json.loads(os.environ.get("FAKE_STEPS", "{}"))  # noqa: TID251 - the test's own channel


def _begin(step: str, record) -> None:
    from serving.contracts.progress import EventKind

    record.emit(step, EventKind.STARTED)
    if PLAN.get("fail") == step:
        record.emit(step, EventKind.FAILED, "told to fail")
        raise RuntimeError("told to fail")
    if PLAN.get("sleep") == step:
        time.sleep(120)


def _folder(output: Path) -> None:
    from tests.fakes.releases import write_weights

    write_weights(output / "bf16")


def prepare(release, output, *, settings, record):
    _begin("prepare_data", record)
    output.mkdir(parents=True)
    (output / "live.jsonl").write_text("")


def validate(release, data, output, *, settings, record):
    from tests.fakes.releases import make_reports

    _begin("validate_data", record)
    assert (data / "live.jsonl").exists()
    output.mkdir(parents=True)
    (output / "live.jsonl").write_text("checked")
    return make_reports("sha256:" + "0" * 64)[0]


def obtain(release, data, output, *, settings, record):
    from tests.fakes.releases import make_reports, write_weights

    _begin("train_model", record)
    assert (data / "live.jsonl").read_text() == "checked"
    return make_reports(write_weights(output))[1]


def quantize(release, data, base, output, *, settings, record):
    from tests.fakes.releases import make_reports, write_weights

    _begin("quantize_model", record)
    assert (base / "config.json").exists()
    return make_reports(write_weights(output / "bf16"))[2]


def benchmark(release, data, candidates, quantization, stable, *, settings, record):
    from tests.fakes.releases import make_reports

    _begin("benchmark_model", record)
    report = make_reports(quantization.base_weights_digest)[3]
    if not PLAN.get("passed", True):
        loser = report.candidates[0].model_copy(update={"passed": False, "why_not_chosen": "too slow"})
        report = report.model_copy(update={"passed": False, "winner": None, "candidates": (loser,)})
    record.publish("benchmark", report)
    return report


def analyze(release, deployment, *, settings, record, shift, data, gateway_url, clock=None, resume_weight=None):
    from components.analyze_canary.unserved import unserved_verdict
    from serving.contracts.canary_verdict import Decision
    from tests.fakes.releases import make_verdict

    _begin("analyze_canary", record)
    if deployment.failure is not None:
        verdict = unserved_verdict(release, deployment, deployment.failure)
        record.publish("verdict", verdict)
        return verdict
    for weight in (5, 25, 50):
        if deployment.stable_service and weight > (resume_weight or 0):
            shift(weight)
    if not deployment.stable_service:
        shift(100)
    verdict = make_verdict(release, Decision(PLAN.get("decision", "promote")))
    record.publish("verdict", verdict)
    return verdict


def _open_syncer(settings):
    from tests.fakes.spine import FakeSyncer, baseline_fails, candidate_fails

    return {"candidate": candidate_fails, "all": baseline_fails}.get(PLAN.get("broken"), FakeSyncer)()


FAKES = {
    "components.prepare_data.logic": {"prepare": prepare},
    "components.validate_data.logic": {"validate": validate},
    "components.train_model.logic": {"obtain": obtain},
    "components.quantize_model.logic": {"quantize": quantize},
    "components.benchmark_model.logic": {"benchmark": benchmark},
    "components.analyze_canary.logic": {"analyze": analyze},
}


class FakeFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the fakes under the real modules' names."""

    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name in FAKES else None

    def create_module(self, spec):
        return ModuleType(spec.name)

    def exec_module(self, module):
        vars(module).update(FAKES[module.__name__])


class PatchFinder(importlib.abc.MetaPathFinder):
    """Lets `serving.sync` be what it is, but for who is asked."""

    def find_spec(self, name, path, target=None):
        if name != "serving.sync":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            module.open_syncer = _open_syncer

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, PatchFinder())
sys.meta_path.insert(0, FakeFinder())
