"""The verdict on a set of images: what Great Expectations answered, and who is to blame, rule by rule."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convflow.data.evidence import Evidence
from convflow.data.expectations import VERSION, Answer, ask
from convflow.data.offenders import Offence, offences, sentence, told
from convflow.data.rules import CRITICAL, INFO, SEVERITIES, Rule

N_EXAMPLES = 5
_UNITS = {"size": "px", "aspect": "times", "class_size": "images"}


@dataclass(frozen=True)
class Finding:
    """One rule's outcome."""

    rule: Rule
    passed: bool
    observed: str
    offences: list[Offence]

    def lines(self) -> list[str]:
        """One sentence per offence."""
        return [sentence(self.rule, offence) for offence in self.offences]


@dataclass(frozen=True)
class Verdict:
    """All findings on one set of images."""

    findings: list[Finding]
    evidence: Evidence
    set_aside: list[Offence]  # rejects that on_bad_image: quarantine lets pass

    @property
    def broken(self) -> list[Finding]:
        """Findings of rules that do not hold, the gravest first."""
        order = {name: place for place, name in enumerate(SEVERITIES)}
        failed = [finding for finding in self.findings if not finding.passed]
        return sorted(failed, key=lambda finding: order[finding.rule.severity])

    @property
    def worst(self) -> str | None:
        """The gravest severity of a broken rule, or None where all hold."""
        return self.broken[0].rule.severity if self.broken else None

    @property
    def critical(self) -> list[Finding]:
        """What stops the pipeline."""
        return [finding for finding in self.broken if finding.rule.severity == CRITICAL]


def judge(rules: Sequence[Rule], evidence: Evidence, *, quarantine: bool, docs: Path | None) -> Verdict:
    """Ask Great Expectations about every rule that can be checked, and name the offenders of those broken.

    Args:
        rules: as `make_rules` gives them.
        evidence: as `gather` gives it.
        quarantine: whether rejects are set aside and listed for information.
        docs: a folder for Data Docs, or None.
    """
    reasons = {rule.name: evidence.unchecked(rule) for rule in rules}
    questions = [
        expectation
        for rule in rules
        for expectation in rule.expectations()
        if not reasons[rule.name] and _can_be_asked(expectation.kwargs, expectation.frame, evidence)
    ]
    frames = {"images": evidence.images, "classes": evidence.classes, "whole": evidence.whole}
    answers = ask(frames, questions, docs=docs)
    findings = [_finding(rule, answers, evidence, reasons[rule.name]) for rule in rules]
    rejects = evidence.rejects.fillna("")
    aside = [Offence(r.path, r.label, f"{r.reason}: {r.detail}; set aside") for r in rejects.itertuples()]
    return Verdict(findings, evidence, aside if quarantine else [])


def _can_be_asked(kwargs: Mapping[str, Any], frame: str, evidence: Evidence) -> bool:
    """A column that is not there would be answered by a traceback; the schema rule names it already."""
    return frame != "images" or "column" not in kwargs or kwargs["column"] in evidence.images


def _finding(rule: Rule, answers: Sequence[Answer], evidence: Evidence, unchecked: str) -> Finding:
    if unchecked:
        return Finding(rule, False, f"not checked: {unchecked}", [])
    mine = [answer for answer in answers if answer.rule == rule.name]
    passed = len(mine) > 0 and all(answer.passed for answer in mine)
    found = [] if passed else offences(rule, evidence)
    if not passed and not found:  # the two disagree: what Great Expectations says holds
        broken = ", ".join(answer.type for answer in mine if not answer.passed) or "it could not be asked"
        found = [Offence("", "", f"expected that {rule.expected}; Great Expectations: {broken}")]
    return Finding(rule, passed, _observed(rule, evidence, len(found)), found)


def _observed(rule: Rule, evidence: Evidence, n_found: int) -> str:
    """What was seen, in a few words; numbers also where the rule holds."""
    if rule.frame == "whole":
        total = evidence.whole.iloc[0]
        return {
            "bad_images": f"{int(total.rejects):,} rejected",
            "reject_share": f"{100 * total.reject_share:.3g} %",
            "two_classes": f"{int(total.classes):,} with images",
            "imbalance": f"{total.imbalance:.4g} times",
        }[rule.name]
    column = str(rule.asks[0][1].get("column", ""))
    frame = evidence.classes if rule.frame == "classes" else evidence.images
    if rule.name in _UNITS and len(frame):
        least, most = f"{frame[column].min():.6g}", f"{frame[column].max():.6g}"
        return f"{least if least == most else f'{least} to {most}'} {_UNITS[rule.name]}"
    if rule.name in ("modes", "labels"):
        seen = sorted(set(frame[column]))
        return ", ".join(seen[:12]) + (f" and {len(seen) - 12:,} more" if len(seen) > 12 else "")
    return {0: "no exception", 1: "1 exception"}.get(n_found, f"{n_found:,} exceptions")


def as_result(verdict: Verdict) -> dict[str, Any]:
    """The verdict as JSON values; the same for the same images and params."""
    evidence = verdict.evidence
    reasons = evidence.rejects["reason"].value_counts()
    return {
        "format": 1,
        "success": not verdict.critical,
        "worst": verdict.worst,
        "images": len(evidence.images),
        "rejects": {"set_aside": bool(verdict.set_aside), **_counts(reasons), "total": len(evidence.rejects)},
        "classes": dict(zip(evidence.classes["label"], evidence.classes["images"].tolist(), strict=True)),
        "rules": [_as_row(finding) for finding in verdict.findings],
        "checked_by": f"great_expectations {VERSION}",
    }


def _counts(reasons: Any) -> dict[str, Any]:
    return {"by_reason": {str(name): int(count) for name, count in sorted(reasons.items())}}


def _as_row(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule.name,
        "severity": finding.rule.severity,
        "passed": finding.passed,
        "observed": finding.observed,
        "expected": finding.rule.expected,
        "count": len(finding.offences),
        "examples": finding.lines()[:N_EXAMPLES],
    }


def as_csv(verdict: Verdict) -> str:
    """All that breaks a rule or keeps it from being checked, and all set aside.

    Columns: path,label,rule,severity,detail.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("path", "label", "rule", "severity", "detail"))
    for finding in verdict.broken:
        name, severity = finding.rule.name, finding.rule.severity
        if not finding.offences:
            writer.writerow(("", "", name, severity, finding.observed))
        writer.writerows((o.path, o.label, name, severity, told(finding.rule, o)) for o in finding.offences)
    writer.writerows((o.path, o.label, "set_aside", INFO, o.detail) for o in verdict.set_aside)
    return stream.getvalue()
