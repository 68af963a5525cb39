"""`mlflow models serve` by a real process: a picture sent with curl, and what a stranger might send."""

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Project

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")]
START_S = 180


@pytest.fixture(scope="module")
def server(digits: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the digits' registered model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{digits.folder / 'mlflow.db'}"}
    environ.pop("PYTHONPATH", None)  # the logged model brings its code along
    log = tmp_path_factory.mktemp("serve") / "log"
    command = ["mlflow", "models", "serve", "-m", "models:/convflow@challenger", "--env-manager", "local"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", port],
            cwd=digits.folder, env=environ, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        ends = time.monotonic() + START_S
        while curl("-f", f"{address}/ping")[0] != 200:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


def curl(*arguments: str) -> tuple[int, str]:
    """Status and body."""
    command = ["curl", "-s", "--noproxy", "*", "-w", "\n%{http_code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    body, _, status = done.stdout.rpartition("\n")
    return int(status or 0), body


def post(server: str, body: Path | str, kind: str = "application/json") -> tuple[int, str]:
    """POST a file, or text, to the model."""
    sent = f"@{body}" if isinstance(body, Path) else body
    return curl(f"{server}/invocations", "-H", f"Content-Type: {kind}", "--data-binary", sent)


def asked(data: bytes) -> str:
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(data).decode()}]})


def test_a_picture_sent_as_the_readme_says_is_answered_as_predict_answers(
    digits: Project, server: str
) -> None:
    picture = sorted((digits.folder / "data/raw/digits/3").iterdir())[0]
    line = (
        """echo '{"dataframe_records": [{"image": "'"$(base64 < PHOTO | tr -d '\\n')"'"}]}' | """
        "curl -s --noproxy '*' -H 'Content-Type: application/json' -d @- http://127.0.0.1:5001/invocations"
    )
    shell = line.replace("PHOTO", str(picture)).replace("http://127.0.0.1:5001", server)
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    (answer,) = json.loads(done.stdout)["predictions"]
    told = digits.run("convflow", "predict", "--runtime", "onnx", "--json", str(picture)).stdout
    (expected,) = json.loads(told)
    assert answer.pop("label") == expected["label"]
    assert answer.pop("probability") == pytest.approx(expected["probability"], abs=1e-4)
    wanted = {f"p_{name}": value for name, value in expected["probabilities"].items()}
    assert answer == pytest.approx(wanted, abs=1e-4)


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 black pixels in a few kB."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


HOSTILE: dict[str, tuple[Any, str]] = {
    "text": (asked(b"no picture at all"), "image 0: not an image (it is text, starting 'no picture at all')"),
    "cut": (asked(b"\x89PNG\r\n\x1a\n\x00"), "image 0: broken or truncated PNG"),
    "bomb": (asked(bomb()), "image 0: 900 megapixels, above the limit; shrink it below 100 megapixels"),
    "no base64": (
        json.dumps({"dataframe_records": [{"image": "?!"}]}),
        "image 0: text that is not base64 ('?!')",
    ),
    "column": (json.dumps({"dataframe_records": [{"photo": "x"}]}), "no column 'image' among ['photo']"),
    "number": (json.dumps({"dataframe_records": [{"image": 7}]}), "image 0: "),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_picture_is_refused_in_one_line_and_the_server_lives_on(server: str, what: str) -> None:
    body, message = HOSTILE[what]
    status, said = post(server, body)
    refused(status, said)
    assert json.loads(said)["message"].startswith(message)
    assert curl(f"{server}/ping")[0] == 200


def refused(status: int, said: str) -> None:
    assert status == 400
    assert "Traceback" not in said
    assert "stack_trace" not in said
    assert len(said) < 1000
    assert said.count("\n") == 0
    assert "\n" not in json.loads(said)["message"]


def test_200_mb_of_text_are_refused_and_the_server_lives_on(server: str, tmp_path: Path) -> None:
    much = tmp_path / "much.json"
    with much.open("w") as stream:
        stream.write('{"dataframe_records": [{"image": "')
        for _ in range(200):
            stream.write("A" * 1_000_000)
        stream.write('"}]}')
    status, said = post(server, much)
    refused(status, said)
    status, said = post(server, much, "text/plain")
    assert (status, said.count("\n"), "Traceback" in said) == (415, 0, False)
    assert curl(f"{server}/ping")[0] == 200
