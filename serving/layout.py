"""Layout of the GitOps repository: where each document of an environment stands."""

from __future__ import annotations


def model_folder(model: str, environment: str) -> str:
    """Folder of one model in one environment."""
    return f"manifests/models/{model}/envs/{environment}"


def service_path(model: str, environment: str, service: str) -> str:
    """InferenceService document; every file in this folder is desired state."""
    return f"{model_folder(model, environment)}/services/{service}.yaml"


def services_glob(environment: str) -> str:
    """Pattern of every InferenceService document of an environment."""
    return f"{services_folder('*', environment)}/*.yaml"


def version_path(model: str, environment: str) -> str:
    """`version.yaml`: what the environment serves as stable."""
    return f"{model_folder(model, environment)}/version.yaml"


def gateway_folder(environment: str) -> str:
    """Folder of the gateway's policy and routes."""
    return f"manifests/apps/gateway/envs/{environment}"


def policy_path(environment: str) -> str:
    """Gateway policy document."""
    return f"{gateway_folder(environment)}/policy.yaml"


def route_path(model: str, environment: str) -> str:
    """Route document of one model."""
    return f"{gateway_folder(environment)}/routes/{model}.yaml"


def services_folder(model: str, environment: str) -> str:
    """Folder of a model's InferenceServices."""
    return f"{model_folder(model, environment)}/services"


def kustomization_path(model: str, environment: str) -> str:
    """`kustomization.yaml` that lists a model's InferenceServices for Argo CD."""
    return f"{model_folder(model, environment)}/kustomization.yaml"
