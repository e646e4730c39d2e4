"""KFP component: hold the data against its contract."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def validate_data(
    release: str, data: dsl.Input[dsl.Dataset], validated: dsl.Output[dsl.Dataset], report: dsl.Output[dsl.Artifact]
) -> None:
    """Check every split against the data contract; data that breaks it stops the release.

    Args:
        release: Resolved release as JSON.
        data: Folder of prepare_data.
        validated: The same rows, which nothing uses before they were checked.
        report: Rules that were checked and the data's digest.
    """
    from pathlib import Path

    from components.validate_data.logic import validate
    from serving.step_context import StepContext, write_artifact

    step = StepContext.load(release)
    folders = Path(data.path), Path(validated.path)
    write_artifact(report.path, validate(step.release, *folders, settings=step.settings, record=step.record))
