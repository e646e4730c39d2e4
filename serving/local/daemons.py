"""Environment of the processes that a home starts."""

from __future__ import annotations

from pydantic import SecretStr

from serving.local.processes import HOME_VARIABLE
from serving.settings import OWN_SETTINGS, NexusSettings, inherited_environment

# What must not reach a detached process: where a shell's Python looks for modules, and the temporary folder of the
# release that happened to start it, which goes when the release ends.
_DROPPED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "TMPDIR")

_PASSED = "NEXUS_GATEWAY_"  # read by the gateway itself, such as its log level


def core_env(settings: NexusSettings, **extra: str) -> dict[str, str]:
    """Return this process's environment with the settings of a home spelt out, which also marks it as the home's."""
    inherited = {
        name: value
        for name, value in inherited_environment().items()
        if name not in _DROPPED and (not name.startswith("NEXUS_") or name.startswith(_PASSED))
    }
    kept = ((name, value) for name, value in settings if value is not None and name not in OWN_SETTINGS)
    own = {f"NEXUS_{name.upper()}": _text(value) for name, value in kept}
    return {**inherited, **own, HOME_VARIABLE: str(settings.home), "PYTHONUNBUFFERED": "1", **extra}


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
