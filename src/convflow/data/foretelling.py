"""What the gate is going to stop at, told without Great Expectations, which takes seconds to load.

The gate itself asks Great Expectations; the lists of offenders, and so these lines, are the same.
"""

from collections.abc import Sequence

from convflow.data.evidence import Evidence
from convflow.data.offenders import offences, sentence
from convflow.data.rules import CRITICAL, Rule


def foretell(rules: Sequence[Rule], evidence: Evidence) -> dict[str, list[str]]:
    """The critical rules that do not hold: a sentence per offence by the rule's name."""
    found = {rule.name: _sentences(rule, evidence) for rule in rules if rule.severity == CRITICAL}
    return {name: sentences for name, sentences in found.items() if sentences}


def _sentences(rule: Rule, evidence: Evidence) -> list[str]:
    if unchecked := evidence.unchecked(rule):
        return [f"not checked: {unchecked}"]
    if rule.frame == "whole" and _holds(rule, evidence):
        return []  # what is said of the whole takes for granted that the rule is broken
    return [sentence(rule, offence) for offence in offences(rule, evidence)]


def _holds(rule: Rule, evidence: Evidence) -> bool:
    total = evidence.whole.iloc[0]
    return all(
        asked.get("min_value", -float("inf"))
        <= total[asked["column"]]
        <= asked.get("max_value", float("inf"))
        for _, asked in rule.asks
    )
