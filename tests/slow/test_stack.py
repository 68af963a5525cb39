"""The pins that no resolver finds: with a newer fastapi Prefect's server does not even import."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_prefect_s_server_imports_beside_everything_else():
    code = "import prefect.server.api.server as server; assert callable(server.create_app)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
