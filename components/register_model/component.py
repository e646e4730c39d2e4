"""KFP component: register the winner."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def register_model(
    release: str,
    candidates: dsl.Input[dsl.Model],
    data_report: dsl.Input[dsl.Artifact],
    training: dsl.Input[dsl.Artifact],
    quantization: dsl.Input[dsl.Artifact],
    benchmark: dsl.Input[dsl.Artifact],
    registration: dsl.Output[dsl.Artifact],
) -> None:
    """Register the benchmark's winner in MLflow, once per content.

    Args:
        release: Resolved release as JSON.
        candidates: One Hugging Face folder a candidate.
        data_report: Document of validate_data.
        training: Document of train_model.
        quantization: Document of quantize_model.
        benchmark: Document of benchmark_model.
        registration: Model version and where its weights lie.
    """
    from pathlib import Path

    from components.register_model.figures import Reports
    from components.register_model.logic import register
    from serving.step_context import StepContext, write_artifact

    step = StepContext.load(release)
    reports = Reports.read(data_report.path, training.path, quantization.path, benchmark.path)
    done = register(step.release, Path(candidates.path), reports, settings=step.settings, record=step.record)
    write_artifact(registration.path, done)
