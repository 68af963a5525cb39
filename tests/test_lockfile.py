"""A dvc.lock torn by a kill is made whole; DVC's own schema is the judge."""

from pathlib import Path

import pytest
import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA

from convflow.errors import ConvflowError
from convflow.lockfile import mend_lock

LOCK = """\
schema: '2.0'
stages:
  scan:
    cmd: python -m convflow run scan "data/raw/élan" data/scan
    deps:
    - path: data/raw/élan
      hash: md5
      md5: 1f1e2e7ec5d6e1d7cd0a3a5d6f1ee1c5.dir
      size: 1100
      nfiles: 12
    outs:
    - path: data/scan
      hash: md5
      md5: 9f1e2e7ec5d6e1d7cd0a3a5d6f1ee1c5.dir
      size: 99
      nfiles: 2
  baseline@svm:
    cmd: >-
      python -m convflow run baseline
    deps:
    - path: data/scan
      hash: md5
      md5: 9f1e2e7ec5d6e1d7cd0a3a5d6f1ee1c5.dir
      size: 99
      nfiles: 2
    params:
      params.yaml:
        baseline:
          kinds:
          - svm
        features: {}
    outs:
    - hash: md5
      md5: aaaa2e7ec5d6e1d7cd0a3a5d6f1ee1c5.dir
      path: models/svm
      size: 101
      nfiles: 2
""".encode()
STAGES = yaml.safe_load(LOCK)["stages"]


def test_any_beginning_becomes_a_lock_file_with_the_stages_that_were_whole(tmp_path):
    path = tmp_path / "dvc.lock"
    for cut in range(len(LOCK)):
        path.write_bytes(LOCK[:cut])
        mend_lock(path)
        found = []
        if path.exists():
            tree = COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(path.read_bytes()))
            found = list(tree["stages"])
        assert found == list(STAGES)[: len(found)], cut
        if cut >= LOCK.index(b"baseline@svm") + 1:
            assert tree["stages"]["scan"] == STAGES["scan"], cut
        assert not mend_lock(path), cut


def test_a_whole_one_is_not_touched(tmp_path):
    path = tmp_path / "dvc.lock"
    assert not mend_lock(path)
    assert not path.exists()
    path.write_bytes(LOCK)
    assert not mend_lock(path)
    assert path.read_bytes() == LOCK


@pytest.mark.parametrize(
    "text",
    [
        LOCK.replace(b"  scan:\n", b"<<<<<<< ours\n  scan:\n=======\n"),
        LOCK.replace(b"    params:", b"<<<<<<< ours\n    params:"),
        b"stages:\n  scan:\n    cmd: a\n  split:\n",
        b"[1, 2]",
        b"\x80\x81",
    ],
)
def test_what_is_no_beginning_of_one_is_left_to_the_user(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_bytes(text)
    with pytest.raises(
        ConvflowError, match=r"^dvc.lock: (not a lock file|a merge) .* `git checkout dvc.lock`$"
    ):
        mend_lock(Path("dvc.lock"))
    assert Path("dvc.lock").read_bytes() == text
