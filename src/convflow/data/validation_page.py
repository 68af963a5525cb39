"""The verdict as one page that needs nothing: no script, no network, readable by eye and by screen reader."""

from collections.abc import Iterable
from html import escape

import pandas as pd

from convflow.data.offenders import Offence
from convflow.data.verdict import Finding, Verdict

N_LISTED = 20
N_BARS = 40

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #556070; --line: #d9dee6; --paper: #fff;
  --box: #f4f6f9; --bar: #4577b8; --critical: #b3261e; --warning: #8a5300; --info: #2b5f9e; --good: #1d6b3a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #a3adbb; --line: #39424f;
  --paper: #151a21; --box: #1e252e; --bar: #6f9fdc; --critical: #ff8a80;
  --warning: #f0b35a; --info: #8fbcf5; --good: #7bd29b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1rem; color: var(--soft); font-weight: 600; margin: 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .25rem; }
.verdict { font-size: 1.6rem; line-height: 1.25; font-weight: 650; margin: .25rem 0 1rem; padding-left: .8rem;
  border-left: .35rem solid currentColor; text-wrap: balance; }
.critical { color: var(--critical); } .warning { color: var(--warning); } .info { color: var(--info); }
.good { color: var(--good); } .soft { color: var(--soft); }
.totals { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem; margin: 0; }
.totals div { background: var(--box); border-radius: .5rem; padding: .6rem .8rem; }
.totals dt { color: var(--soft); font-size: .875rem; }
.totals dd { margin: 0; font-size: 1.35rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .4rem .75rem .4rem 0; overflow-wrap: anywhere;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--soft); font-size: .875rem; font-weight: 600; }
td.number { text-align: right; white-space: nowrap; }
.state, .rules tbody th { white-space: nowrap; font-weight: 600; } .observed { min-width: 9rem; }
.bars th { width: 30%; font-weight: 400; } .bars td.number { width: 1%; }
.bars td, .bars th { border: 0; padding-block: .15rem; vertical-align: middle; }
.bar { background: var(--bar); height: .9rem; min-width: 1px; border-radius: 0 .2rem .2rem 0; }
.files { padding-left: 1.2rem; margin: .4rem 0; } .files li { margin: .2rem 0; overflow-wrap: anywhere; }
code { font: .9em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
a { color: var(--info); }
@media (max-width: 44rem) { .verdict { font-size: 1.3rem; }
  .rules, .rules tbody, .rules tr, .rules th, .rules td { display: block; border: 0; padding: 0; }
  .rules thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .rules tr { border-bottom: 1px solid var(--line); padding: .6rem 0; }
  .rules .observed::before { content: "found: "; color: var(--soft); } }
"""


def as_page(verdict: Verdict, *, with_docs: bool) -> str:
    """The page as HTML text."""
    sentence, tone = _sentence(verdict)
    docs = ' · <a href="data_docs/index.html">Great Expectations Data Docs</a>' if with_docs else ""
    parts = [
        "<h1>Validation of the images</h1>",
        f'<p class="verdict {tone}">{escape(sentence)}</p>',
        _totals(verdict),
        f'<p class="soft">Every file and reason: <a href="problems.csv">problems.csv</a> · for programs: '
        f'<a href="result.json">result.json</a>{docs}</p>',
        _rules(verdict),
        _problems(verdict),
        _classes(verdict.evidence.classes),
        _rejects(verdict),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Validation: {escape(sentence)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _sentence(verdict: Verdict) -> tuple[str, str]:
    n_images = f"{len(verdict.evidence.images):,} images"
    n_critical = len(verdict.critical)
    if n_critical:
        broken = "a critical rule is" if n_critical == 1 else f"{n_critical} critical rules are"
        return f"Not approved: {broken} broken. Nothing will be trained on these {n_images}.", "critical"
    n_warnings = sum(finding.rule.severity == "warning" for finding in verdict.broken)
    if n_warnings:
        warnings = "1 warning" if n_warnings == 1 else f"{n_warnings} warnings"
        return f"Approved with {warnings}: {n_images} may be trained on.", "warning"
    return f"Approved: {n_images} may be trained on.", "good"


def _totals(verdict: Verdict) -> str:
    evidence = verdict.evidence
    totals = {
        "Images": len(evidence.images),
        "Classes": len(evidence.classes),
        "Set aside" if verdict.set_aside else "Rejected files": len(evidence.rejects),
        "Rules kept": f"{sum(f.passed for f in verdict.findings)} of {len(verdict.findings)}",
    }
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value if isinstance(value, str) else f'{value:,}'}</dd></div>"
        for name, value in totals.items()
    )
    return f'<dl class="totals">{cells}</dl>'


def _rules(verdict: Verdict) -> str:
    # The roles are said out loud: where the narrow layout makes blocks of the cells, browsers forget them.
    rows = "".join(map(_rule_row, [*verdict.broken, *(f for f in verdict.findings if f.passed)]))
    return (
        '<h2>Rules</h2><table class="rules" role="table"><thead><tr role="row"><th scope="col">Rule</th>'
        '<th scope="col">Outcome</th><th scope="col">Expected</th><th scope="col">Found</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _rule_row(finding: Finding) -> str:
    rule = finding.rule
    if finding.passed:
        state = '<td role="cell" class="state good">✓ kept</td>'
    elif rule.severity == "info":
        state = '<td role="cell" class="state info">• noted</td>'
    else:
        state = f'<td role="cell" class="state {rule.severity}">✗ broken, {rule.severity}</td>'
    named = _title(finding)
    name = f'<a href="#{rule.name}">{named}</a>' if finding.offences else named
    seen = f'<td role="cell" class="observed">{escape(finding.observed)}</td>'
    head = f'<th scope="row" role="rowheader">{name}</th>'
    return f'<tr role="row">{head}{state}<td role="cell">{escape(rule.expected)}</td>{seen}</tr>'


def _title(finding: Finding) -> str:
    return escape(finding.rule.name.replace("_", " ").capitalize())


def _problems(verdict: Verdict) -> str:
    sections = [_problem(finding) for finding in verdict.broken if finding.offences]
    return "<h2>What is wrong, and what to do</h2>" + "".join(sections) if sections else ""


def _problem(finding: Finding) -> str:
    rule, total = finding.rule, len(finding.offences)
    count = "1 problem" if total == 1 else f"{total:,} problems"
    return (
        f'<section aria-labelledby="{rule.name}"><h3 id="{rule.name}">{_title(finding)}: {count} '
        f'<span class="{rule.severity}">({rule.severity})</span></h3>'
        f'<p class="soft">Remedy: {escape(rule.remedy)}.</p>{_files(finding.offences)}</section>'
    )


def _files(offences: list[Offence]) -> str:
    lines = []
    for offence in offences[:N_LISTED]:
        path = f"<code>{escape(offence.path)}</code>: " if offence.path else ""
        remedy = f'; <span class="soft">{escape(offence.remedy)}</span>' if offence.remedy else ""
        lines.append(f"<li>{path}{escape(offence.detail)}{remedy}</li>")
    if len(offences) > N_LISTED:
        rest = len(offences) - N_LISTED
        lines.append(f'<li class="soft">and {rest:,} more in <a href="problems.csv">problems.csv</a></li>')
    return f'<ul class="files">{"".join(lines)}</ul>'


def _classes(classes: pd.DataFrame) -> str:
    by_size = classes.sort_values(["images", "label"], ascending=[False, True])
    sizes = list(zip(by_size["label"], by_size["images"].tolist(), strict=True))
    if len(sizes) <= N_BARS:
        return _bars("Images per class", "Class", sizes)
    half = N_BARS // 2
    title = f"Images per class: the {half} largest and {half} smallest of {len(sizes):,}"
    return _bars(title, "Class", [*sizes[:half], *sizes[-half:]])


def _rejects(verdict: Verdict) -> str:
    reasons = sorted(verdict.evidence.rejects["reason"].value_counts().items(), key=lambda item: -item[1])
    if not reasons:
        return ""
    listed = _files(verdict.set_aside) if verdict.set_aside else ""
    title = "Files set aside, by reason" if verdict.set_aside else "Rejected files, by reason"
    return _bars(title, "Reason", [(str(name), int(count)) for name, count in reasons]) + listed


def _bars(title: str, of: str, sizes: Iterable[tuple[str, int]]) -> str:
    sizes = list(sizes)
    most = max((size for _, size in sizes), default=0) or 1
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{size:,}</td>'
        f'<td aria-hidden="true"><div class="bar" style="width:{100 * size / most:.2f}%"></div></td></tr>'
        for name, size in sizes
    )
    head = f'<thead><tr><th scope="col">{of}</th><th scope="col">Images</th><td></td></tr></thead>'
    return f'<h2>{title}</h2><table class="bars">{head}<tbody>{rows}</tbody></table>'
