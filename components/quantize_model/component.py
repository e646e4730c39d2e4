"""KFP component: try the release's quantization recipes."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def quantize_model(
    release: str,
    data: dsl.Input[dsl.Dataset],
    base: dsl.Input[dsl.Model],
    candidates: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.Artifact],
) -> None:
    """Build one candidate a recipe.

    Args:
        release: Resolved release as JSON.
        data: Validated rows; the calibration split is used.
        base: Base weights.
        candidates: One Hugging Face folder a candidate that was built.
        report: Size, time and error of each, and why one failed.
    """
    from pathlib import Path

    from components.quantize_model.logic import quantize
    from serving.step_context import StepContext, write_artifact

    step = StepContext.load(release)
    folders = Path(data.path), Path(base.path), Path(candidates.path)
    write_artifact(report.path, quantize(step.release, *folders, settings=step.settings, record=step.record))
