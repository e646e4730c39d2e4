"""KFP component: obtain the base weights."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def train_model(
    release: str, data: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model], report: dsl.Output[dsl.Artifact]
) -> None:
    """Train the base weights, or take them from the path, hub or registry that the release names.

    Args:
        release: Resolved release as JSON.
        data: Validated rows.
        model: Base weights as a Hugging Face folder.
        report: How they came to be.
    """
    from pathlib import Path

    from components.train_model.logic import obtain
    from serving.step_context import StepContext, write_artifact

    step = StepContext.load(release)
    folders = Path(data.path), Path(model.path)
    write_artifact(report.path, obtain(step.release, *folders, settings=step.settings, record=step.record))
