"""The settings that keep every tool quiet, offline and inside the project; the only place that holds them."""

import os
import shlex
import sys
from pathlib import Path


def tool_settings(root: Path) -> dict[str, str]:
    """The environment variables for the project at `root`; paths come back absolute.

    `MLFLOW_TRACKING_URI` is left out on purpose: set by the user it wins over `tracking.uri`, so it must
    not be set by us.
    """
    root = root.resolve()
    own = root / ".convflow"
    return {
        # no tool reports home
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # no tool writes outside the project, or reads what lies there (accelerate's default_config.yaml)
        "DVC_SITE_CACHE_DIR": str(root / ".dvc" / "tmp" / "site"),
        "HF_HOME": str(own / "huggingface"),
        "MPLCONFIGDIR": str(own / "matplotlib"),
        "PREFECT_HOME": str(root / ".prefect"),
        "PREFECT_UI_STATIC_DIRECTORY": str(root / ".prefect" / "ui"),
        "TORCH_HOME": str(own / "torch"),
        # no window, no banner, no progress bar that is not ours
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MPLBACKEND": "Agg",
        # no pickle is ever loaded; the server is two processes, not fifteen; a dead server is noticed soon
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # the default of 20 s is too short for Prefect's first start on a slow machine
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }


def quiet_tools(root: Path) -> None:
    """Set what is not set yet in this process, and so in all it starts; the user's own values win."""
    for name, value in tool_settings(root).items():
        os.environ.setdefault(name, value)


def own_tools_first() -> None:
    """Put this environment's commands first on PATH, for this process and all it starts.

    The tools start others by name (dvc: python, mlflow: uvicorn); these must be this environment's.
    """
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])


def shell_lines(root: Path) -> str:
    """The same settings as `export` lines for sh, bash and zsh; values that are set already win there too."""
    lines = (
        f'[ "${{{name}+set}}" ] || export {name}={shlex.quote(value)}'
        for name, value in tool_settings(root).items()
    )
    return "\n".join(lines) + "\n"
