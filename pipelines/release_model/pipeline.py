"""Pipeline release_model: from a data contract to a judged canary. Wiring only."""

from kfp import dsl

from components.analyze_canary.component import analyze_canary
from components.benchmark_model.component import benchmark_model
from components.build_report.component import build_report
from components.conclude_release.component import conclude_release
from components.deploy_kserve.component import deploy_kserve
from components.prepare_data.component import prepare_data
from components.quantize_model.component import quantize_model
from components.register_model.component import register_model
from components.reject_release.component import reject_release
from components.train_model.component import train_model
from components.validate_data.component import validate_data


@dsl.pipeline(name="release-model", description="Release one model: validate, build, benchmark, canary, conclude.")
def release_model(release: str) -> None:
    """Release one model; the report is made whatever happens.

    The branch has an Else and stands inside the exit handler's graph: kfp's local runner evaluates a named condition
    there, while at the top level, without an Else, it takes it for false and reports success.

    Args:
        release: Resolved release as JSON.
    """
    report = build_report(release=release)
    with dsl.ExitHandler(report, name="release"):
        prepared = prepare_data(release=release)
        checked = validate_data(release=release, data=prepared.outputs["data"])
        data = checked.outputs["validated"]
        base = train_model(release=release, data=data)
        built = quantize_model(release=release, data=data, base=base.outputs["model"])
        candidates = built.outputs["candidates"]
        measured = benchmark_model(
            release=release, data=data, candidates=candidates, quantization=built.outputs["report"]
        )
        with dsl.If(measured.outputs["Output"] == True, name="gates-passed"):  # noqa: E712 - kfp records the comparison
            registered = register_model(
                release=release,
                candidates=candidates,
                data_report=checked.outputs["report"],
                training=base.outputs["report"],
                quantization=built.outputs["report"],
                benchmark=measured.outputs["report"],
            )
            registration = registered.outputs["registration"]
            deployed = deploy_kserve(release=release, registration=registration)
            judged = analyze_canary(release=release, data=data, deployment=deployed.outputs["deployment"])
            conclude_release(release=release, registration=registration, verdict=judged.outputs["verdict"])
        with dsl.Else(name="gates-failed"):
            reject_release(release=release, benchmark=measured.outputs["report"])
