"""Transfer learning as part of the main job, from weights that are given and from one's own."""

import json
import shutil

import pytest

from conftest import Project

pytestmark = pytest.mark.slow

# From networks that look at small pictures, and with few rungs: seconds instead of minutes.
SETTINGS = {
    "baseline.kinds": "[majority]",
    "embed.packed_px": "16",
    "embed.size_px": "32",
    "evaluate.models": "[transfer, cnn, majority]",
    "evaluate.candidate": "transfer",
    "finetune.models": "[transfer]",
    "finetune.rungs": "[probe, views, tune, soup, temperature]",
    "finetune.tune.epochs": "2",
    "finetune.tune.runs": "2",
}


def init(project: Project, root: str, **changed: str) -> None:
    settings = SETTINGS | {name.replace("__", "."): value for name, value in changed.items()}
    project.init(root, *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")))


def accuracy(project: Project) -> dict[str, float]:
    figures = json.loads((project.folder / "reports/evaluation/metrics.json").read_text())
    return {name: found["test"]["accuracy"]["value"] for name, found in figures.items()}


def test_a_pretrained_network_is_fitted_registered_and_answers_and_another_head_costs_no_features(project):
    project.repro("data/dvc.yaml:digits")
    init(project, "data/raw/digits")
    said = project.run("convflow", "repro").stdout
    assert "finetune: probe kept, the first" in said
    assert "publish: convflow version 1, alias challenger" in said
    found = accuracy(project)
    print(found)
    assert found["transfer"] > 0.8
    assert (project.folder / "reports/ladder/transfer.png").stat().st_size > 10_000
    answers = json.loads(project.run("convflow", "predict", "--json", "data/raw/digits/3").stdout)
    right = [answer["label"] == "3" for answer in answers]
    assert sum(right) > 0.8 * len(right)

    init(project, "data/raw/digits", finetune__probe__c="[0.01]")
    said = project.repro("finetune@transfer").stdout
    assert "Stage 'embed@transfer' didn't change" in said
    assert "Running stage 'finetune@transfer'" in said


def test_a_network_of_one_s_own_is_taken_to_other_classes(project):
    project.repro("data/dvc.yaml:digits")
    raw = project.folder / "data/raw"
    for name, classes, n_images in (("low", "01234", 180), ("high", "56789", 16)):
        for label in classes:
            pictures = sorted((raw / "digits" / label).iterdir())[:n_images]
            (raw / name / label).mkdir(parents=True)
            for picture in pictures:
                shutil.copy(picture, raw / name / label)
    project.init("data/raw/low", "--set", "train.epochs=12")
    project.repro("train")
    shutil.copytree(project.folder / "models/cnn", project.folder / "weights/low")
    card = json.loads((project.folder / "weights/low/card.json").read_text())

    init(
        project, "data/raw/high", embed__source="weights/low", embed__size_px="null",
        embed__sha256=card["weights"]["sha256"], finetune__tune__blocks="2",
    )  # fmt: skip
    project.run("convflow", "repro")
    found = accuracy(project)
    print(found)
    assert found["transfer"] > found["cnn"]
    backbone = json.loads((project.folder / "models/transfer/card.json").read_text())["backbone"]
    assert backbone["source"] == "weights/low"
