"""KFP component: the release's report."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def build_report(release: str, report: dsl.Output[dsl.HTML]) -> None:
    """Make one offline HTML file of what the release left in its record, also when a step failed.

    Args:
        release: Resolved release as JSON.
        report: The HTML file.
    """
    from pathlib import Path
    from shutil import copyfile

    from components.build_report.logic import build
    from serving.step_context import StepContext

    step = StepContext.load(release)
    page = step.record.folder / "report.html"
    build(step.record, page)
    copyfile(page, Path(report.path))
