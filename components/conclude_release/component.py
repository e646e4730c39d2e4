"""KFP component: carry out the canary's verdict."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def conclude_release(
    release: str,
    registration: dsl.Input[dsl.Artifact],
    verdict: dsl.Input[dsl.Artifact],
    conclusion: dsl.Output[dsl.Artifact],
) -> None:
    """Promote, roll back or hold by one commit, and bring registry and node to agree with it.

    Args:
        release: Resolved release as JSON.
        registration: Document of register_model.
        verdict: Document of analyze_canary.
        conclusion: How the release ended.
    """
    from components.conclude_release.logic import conclude
    from serving.contracts.canary_verdict import CanaryVerdict
    from serving.contracts.registration import Registration
    from serving.step_context import StepContext, read_artifact, write_artifact

    step = StepContext.load(release)
    judged = read_artifact(registration.path, Registration), read_artifact(verdict.path, CanaryVerdict)
    write_artifact(conclusion.path, conclude(step.release, *judged, settings=step.settings, record=step.record))
