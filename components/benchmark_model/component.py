"""KFP component: measure all candidates beside the stable model."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def benchmark_model(
    release: str,
    data: dsl.Input[dsl.Dataset],
    candidates: dsl.Input[dsl.Model],
    quantization: dsl.Input[dsl.Artifact],
    report: dsl.Output[dsl.Artifact],
) -> bool:
    """Serve and measure every candidate and the stable model; tell whether one passed the gates.

    Args:
        release: Resolved release as JSON.
        data: Validated rows; the evaluation split is used.
        candidates: Folder of quantize_model.
        quantization: Document of quantize_model.
        report: Every figure, the gates, and the winner.
    """
    from pathlib import Path

    from components.benchmark_model.logic import benchmark
    from serving import release_state
    from serving.contracts.quantization_report import QuantizationReport
    from serving.step_context import StepContext, read_artifact, write_artifact

    step = StepContext.load(release)
    built = read_artifact(quantization.path, QuantizationReport)
    stable = release_state.read_version(step.gitops, step.release.spec.model, step.settings.environment)
    folders = Path(data.path), Path(candidates.path)
    found = benchmark(step.release, *folders, built, stable, settings=step.settings, record=step.record)
    write_artifact(report.path, found)
    return found.passed
