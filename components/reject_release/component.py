"""KFP component: record that no candidate passed."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def reject_release(release: str, benchmark: dsl.Input[dsl.Artifact], conclusion: dsl.Output[dsl.Artifact]) -> None:
    """Record in git that no candidate passed its offline gates; nothing was deployed.

    Args:
        release: Resolved release as JSON.
        benchmark: Document of benchmark_model, without a winner.
        conclusion: How the release ended.
    """
    from components.reject_release.logic import reject
    from serving.contracts.benchmark_report import BenchmarkReport
    from serving.step_context import StepContext, read_artifact, write_artifact

    step = StepContext.load(release)
    report = read_artifact(benchmark.path, BenchmarkReport)
    write_artifact(conclusion.path, reject(step.release, report, settings=step.settings, record=step.record))
