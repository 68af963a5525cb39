"""The tools' settings: one source for Python, the shell and the Makefile."""

import os
import subprocess
from pathlib import Path

import pytest

from convflow.environment import quiet_tools, shell_lines, tool_settings


def test_every_path_lies_inside_the_project(tmp_path: Path) -> None:
    paths = [value for value in tool_settings(tmp_path).values() if value.startswith("/")]
    assert paths
    assert all(Path(path).is_relative_to(tmp_path) for path in paths)


def test_the_users_own_values_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tool_settings(tmp_path):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", "/elsewhere")
    quiet_tools(tmp_path)
    expected = tool_settings(tmp_path) | {"PREFECT_HOME": "/elsewhere"}
    assert {name: os.environ[name] for name in expected} == expected
    for name in expected:  # setdefault by quiet_tools is not undone by monkeypatch
        monkeypatch.delenv(name)


def test_the_address_of_the_store_is_left_to_the_user(tmp_path: Path) -> None:
    assert "MLFLOW_TRACKING_URI" not in tool_settings(tmp_path)


def test_a_shell_gets_the_same_values_blanks_and_all(tmp_path: Path) -> None:
    root = tmp_path / "it's a place"
    script = shell_lines(root) + 'printf "%s\\n" "$MLFLOW_DISABLE_TELEMETRY" "$MPLCONFIGDIR" "$PREFECT_HOME"'
    done = subprocess.run(
        ["sh", "-euc", script], env={"PREFECT_HOME": "/mine"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["true", str(root / ".convflow/matplotlib"), "/mine"]
