"""data/scan -> data/approved + reports/validation: a broken critical rule stops all that follows."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from convflow.data.evidence import gather
from convflow.data.rules import limits_of, make_rules
from convflow.data.validation_page import as_page
from convflow.data.verdict import Finding, Verdict, as_csv, as_result, judge
from convflow.errors import DataError
from convflow.files import read_json, whole_folder, write_json, write_text
from convflow.params import Fraction, PositiveInt, Section, read_params
from convflow.tables import read_table, write_table

Severity = Literal["critical", "warning", "info"]
Names = Annotated[list[str], Field(min_length=1)]
N_LINES = 10


class Severities(Section):
    """How grave it is when a rule is broken; what is not here is always critical."""

    labels: Severity
    size: Severity
    aspect: Severity
    modes: Severity
    class_size: Severity
    imbalance: Severity
    reject_share: Severity
    duplicates: Severity
    near_duplicates: Severity
    near_label_conflict: Severity
    group: Severity


class Params(Section):
    """Section `validate`."""

    labels: Names | None
    min_side_px: PositiveInt
    max_aspect: Annotated[float, Field(ge=1)]
    modes: Names | None
    min_images_per_class: PositiveInt
    max_imbalance: Annotated[float, Field(ge=1)]
    max_reject_share: Fraction
    on_bad_image: Literal["fail", "quarantine"]
    near_duplicate_distance: Annotated[int, Field(ge=0, le=15)]
    require_group: bool
    data_docs: bool
    severity: Severities


def run(scan: Path, approved: Path, validation: Path, *, params: Params) -> None:
    """Check the scan's rows; approve them, or stop with the reasons.

    Raises:
        DataError: when a critical rule is broken; the reports are written and no approved table is left.
    """
    shutil.rmtree(approved, ignore_errors=True)
    rows = read_table(scan / "rows.parquet")
    rejects = read_table(scan / "rejects.parquet")
    # One key of another stage's section: a grouped split is a promise about the data, and this is their gate.
    method = (read_params(Path("params.yaml")).get("split") or {}).get("method")
    distance = params.near_duplicate_distance
    classes = read_json(scan / "summary.json")["classes"]
    evidence = gather(rows.to_pandas(), rejects.to_pandas(), classes, distance=distance)
    limits = limits_of(params.model_dump(), grouped=method == "grouped")
    rules = make_rules(limits, params.severity.model_dump())
    with whole_folder(validation) as folder:
        docs = folder / "data_docs" if params.data_docs else None
        verdict = judge(rules, evidence, quarantine=not limits.bad_images_fail, docs=docs)
        write_json(folder / "result.json", as_result(verdict))
        write_text(folder / "problems.csv", as_csv(verdict))
        write_text(folder / "index.html", as_page(verdict, with_docs=docs is not None))
    _stop_if_critical(verdict, validation)
    with whole_folder(approved) as folder:
        write_table(folder / "rows.parquet", rows)
    sys.stdout.write(_summary(verdict, validation))


def _stop_if_critical(verdict: Verdict, validation: Path) -> None:
    lines = [line for finding in verdict.critical for line in finding.lines() or [_unasked(finding)]]
    if not verdict.critical:
        return
    more = [f"... and {len(lines) - N_LINES:,} more"] if len(lines) > N_LINES else []
    sys.stderr.write("".join(f"  {line}\n" for line in [*lines[:N_LINES], *more]))
    counts = ", ".join(
        f"{finding.rule.name} {f'{len(finding.offences):,}' if finding.offences else 'not checked'}"
        for finding in verdict.critical
    )
    problems = "1 critical problem" if len(lines) == 1 else f"{len(lines):,} critical problems"
    raise DataError(
        f"validation stopped the pipeline: {problems} ({counts}); "
        f"all in {validation / 'problems.csv'}, explained in {validation / 'index.html'}"
    )


def _unasked(finding: Finding) -> str:
    """A rule that could not be checked has nobody to blame, but a reason."""
    return f"{finding.rule.name}: {finding.observed}"


def _summary(verdict: Verdict, validation: Path) -> str:
    n_classes = (verdict.evidence.classes["images"] > 0).sum()
    lines = [f"validate: {len(verdict.evidence.images):,} images of {n_classes:,} classes approved"]
    if verdict.set_aside:
        lines[0] += f", {len(verdict.set_aside):,} files set aside"
    for finding in verdict.broken:
        first = finding.lines()[0] if finding.offences else finding.observed
        name, count = finding.rule.name, len(finding.offences)
        lines.append(f"  {finding.rule.severity}: {name} ({count:,}), first: {first}")
    if verdict.broken:
        lines.append(f"  see {validation / 'index.html'}")
    return "\n".join(lines) + "\n"
