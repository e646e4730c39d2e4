"""KFP component: judge the candidate on live traffic."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def analyze_canary(
    release: str,
    data: dsl.Input[dsl.Dataset],
    deployment: dsl.Input[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
) -> None:
    """Shift the traffic step by step, each one commit, until the sequential test has decided.

    Args:
        release: Resolved release as JSON.
        data: Validated rows; simulated users ask the live split.
        deployment: Document of deploy_kserve.
        verdict: Decision and evidence.
    """
    from pathlib import Path

    from components.analyze_canary.gitops_canary import analyze_in_git
    from serving.contracts.registration import Deployment
    from serving.step_context import StepContext, read_artifact, write_artifact

    step = StepContext.load(release)
    write_artifact(verdict.path, analyze_in_git(step, read_artifact(deployment.path, Deployment), Path(data.path)))
