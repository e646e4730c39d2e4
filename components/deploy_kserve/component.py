"""KFP component: deploy the candidate at 0 %."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.COMPONENTS, install_kfp_package=False)
def deploy_kserve(release: str, registration: dsl.Input[dsl.Artifact], deployment: dsl.Output[dsl.Artifact]) -> None:
    """Commit the candidate and its baseline at 0 % of the users, and wait until both answer.

    Args:
        release: Resolved release as JSON.
        registration: Document of register_model.
        deployment: Services of the release and the commit that added them.
    """
    from components.deploy_kserve.logic import deploy
    from serving.contracts.registration import Registration
    from serving.step_context import StepContext, read_artifact, write_artifact

    step = StepContext.load(release)
    registered = read_artifact(registration.path, Registration)
    write_artifact(deployment.path, deploy(step.release, registered, settings=step.settings, record=step.record))
