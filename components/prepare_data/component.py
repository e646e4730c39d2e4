"""KFP component: materialise the data."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def prepare_data(release: str, data: dsl.Output[dsl.Dataset]) -> None:
    """Write every split of the data contract's source.

    Args:
        release: Resolved release as JSON.
        data: Folder with one `<split>.jsonl` file a split.
    """
    from pathlib import Path

    from components.prepare_data.logic import prepare
    from serving.step_context import StepContext

    step = StepContext.load(release)
    prepare(step.release, Path(data.path), settings=step.settings, record=step.record)
