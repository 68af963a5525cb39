"""May a version become champion? Two blessings, rule by rule: quality, and mechanics; plain values in.

Quality asks whether it is better, on evidence, than the champion; a person may override it with a reason.
Mechanics asks whether the registered files load and answer as they did; nobody may override that. A rule
whose `passed` is None was not asked or could not be, and says why; it refuses nobody by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from convflow.evaluation.deciding import Rule
from convflow.evaluation.rematch import Apart, Rematch
from convflow.evaluation.summary import LOWER_IS_BETTER, TITLES

_ROUNDING = 1e-9
NO_CHAMPION = "not asked: there is no champion yet"


@dataclass(frozen=True)
class Judgement:
    """Promoted or refused, and why in a sentence."""

    promoted: bool
    sentence: str


def judge(
    version: str, quality: Sequence[Rule], mechanics: Sequence[Rule], *, forced: bool, reason: str
) -> Judgement:
    """Promote where no rule fails; with `forced` where none of mechanics fails."""
    asked = [rule for rule in [*quality, *mechanics] if rule.passed is not None]
    broken = _failed(mechanics)
    failed = _failed(quality) + broken
    if not failed:
        note = f"; it was to be forced ({reason}), which was not needed" if forced else ""
        return Judgement(True, f"version {version} is promoted: all {len(asked)} rules hold{note}")
    which = f"{len(failed)} of {len(asked)} rules ({', '.join(failed)})"
    if forced and not broken:
        return Judgement(True, f"version {version} is promoted by force against {which}: {reason}")
    if forced:
        told = f"{', '.join(broken)}: what does not load and answer alike cannot be forced"
        return Judgement(False, f"version {version} is refused: {told}")
    return Judgement(False, f"version {version} is refused by {which}")


def judge_rollback(version: str, champion: str | None, mechanics: Sequence[Rule], reason: str) -> Judgement:
    """Go back to `version` where mechanics hold; its quality was judged when it was promoted."""
    if broken := _failed(mechanics):
        told = f"{', '.join(broken)}: what does not load and answer alike cannot be champion"
        return Judgement(False, f"version {version} is refused: {told}")
    why = f": {reason}" if reason.strip() else ""
    return Judgement(True, f"version {version} is champion again after version {champion}{why}")


def verdict(word: str | None, sentence: str, waived: str | None) -> Rule:
    """`decide` has accepted it; `waived` is what its leak probe said where a tripped one was waived."""
    name = "verdict"
    if word is None:
        return _rule(name, False, "the version bears no verdict; run `convflow repro` to publish it anew")
    told = f"decide says {word} ({sentence})"
    if word == "accepted" and waived:
        return _rule(name, True, f"{told}; though {waived}")
    return _rule(name, word == "accepted", told)


def evidence(missing: Sequence[str]) -> Rule:
    """The version bears its digests and the like; `missing` are the tags it lacks."""
    if missing:
        told = f"the version lacks {', '.join(missing)}; run `convflow repro` to publish it anew"
        return _rule("evidence", False, told)
    return _rule("evidence", True, "the version names its code, data, split, model and predictions")


def clean(dirty: str | None, commit: str, *, allow: bool) -> Rule:
    """It was published from files as git has them; `dirty` is "true", "false", or else without git."""
    name = "clean tree"
    if dirty == "false":
        return _rule(name, True, f"published from commit {commit[:12]}, nothing changed")
    told = "published from files that git does not have" if dirty == "true" else "published without git"
    if allow:
        return _rule(name, True, f"{told}; promote.allow_dirty lets it pass")
    return _rule(name, False, f"{told}; commit, then run `convflow repro`, or set promote.allow_dirty")


def classes(ours: Sequence[str], theirs: Sequence[str] | None, champion: str | None) -> Rule:
    """The same classes in the same order as the champion's."""
    name = "classes"
    if theirs is None:
        return _rule(name, None, NO_CHAMPION)
    new = [one for one in ours if one not in theirs]
    gone = [one for one in theirs if one not in ours]
    if list(ours) == list(theirs):
        return _rule(name, True, f"the {len(ours)} classes of champion version {champion}")
    told = [f"new: {', '.join(new)}"] if new else []
    told += [f"gone: {', '.join(gone)}"] if gone else []
    what = "; ".join(told) or "in another order"
    return _rule(name, False, f"other classes than those of champion version {champion} ({what})")


def contract(ours: Mapping[str, Any], theirs: Mapping[str, Any] | None, champion: str | None) -> Rule:
    """The same input as the champion's: side, channels, and how a picture is fitted."""
    name = "input"
    if theirs is None:
        return _rule(name, None, NO_CHAMPION)
    if dict(ours) == dict(theirs):
        return _rule(name, True, f"takes {_input(ours)}, as champion version {champion} does")
    return _rule(name, False, f"takes {_input(ours)}; champion version {champion} takes {_input(theirs)}")


def common_rows(n_rows: int, left_out: int, least: int, problem: str | None) -> Rule:
    """Both have answered the same test images, of which neither had learnt any.

    Args:
        n_rows: images compared on.
        left_out: test images that one of the two had in train or val.
        least: images needed.
        problem: why there are none to compare on, or None.
    """
    name = "same images"
    if problem is not None:
        return Rule(name, False, None, least, f"the two cannot be compared: {problem}")
    told = f"both answered {n_rows:,} test images"
    told += f", {left_out:,} left out that one of them had in train or val" if left_out else ""
    if n_rows < least:
        told += f"; promote.min_rows wants {least:,}"
    return Rule(name, n_rows >= least, n_rows, least, told)


def better(apart: Apart, margin: float, champion: str) -> Rule:
    """The paired interval of the difference lies wholly above -margin."""
    name, title = "better", TITLES[apart.name]
    is_loss = apart.name in LOWER_IS_BETTER
    against = f"{title} {apart.ours:.3f} against {apart.theirs:.3f} of champion version {champion}"
    if apart.ends is None:
        return Rule(name, False, apart.value, -margin, f"{against}: no paired interval (one group or image)")
    value, low, high = apart.value, apart.ends.low, apart.ends.high
    if is_loss:  # turned so that above zero is better
        value, low, high = -value, -high, -low
    shown = f"{value:+.4f} [{low:+.4f}, {high:+.4f}]" if is_loss else _points(value, low, high)
    bound = 0.0 - margin
    wanted = f"{bound:g}" if is_loss else f"{bound * 100:g}"
    sentence = f"{against}: {shown}; the interval has to lie above {wanted}"
    return Rule(name, low > bound, value, bound, sentence)


def no_fall(name: str, parts: Sequence[Apart], limit: float, least: int) -> Rule:
    """Nowhere a fall of more than `limit` that is more than noise: its paired interval lies below 0.

    Judging by the value alone would refuse better models by the noise of small parts, and by the lower end
    every model. Where there is no interval, the value decides.

    Args:
        name: "classes" or "slices", as in a sentence.
        parts: the recall of each class, or the accuracy in each slice.
        limit: in [0, 1].
        least: images; a part with fewer is not judged.
    """
    known = [part for part in parts if part.n >= least]
    rule = f"no {name} falls"
    if not known:
        return Rule(rule, None, None, limit, f"not asked: no {name} of at least {least} images")
    worst = min(known, key=lambda part: part.value)
    fallen = [part for part in known if _has_fallen(part, limit)]
    shown = min(fallen, key=lambda part: part.value) if fallen else worst
    more = f" and {len(fallen) - 1} more" if len(fallen) > 1 else ""
    told = f"{shown.name} ({shown.n:,} images){more}: {shown.theirs:.3f} -> {shown.ours:.3f}, {_of(shown)}"
    end = f"; more than {limit * 100:g} points is refused where the interval lies below 0"
    return Rule(rule, not fallen, shown.value, -limit, f"{told}{end}")


def against(
    found: Rematch, champion: str, *, metric_margin: float, drops: tuple[float, float], min_slice: int
) -> list[Rule]:
    """The three rules on figures; `drops` are the limits of a class and of a slice."""
    return [
        better(found.metric, metric_margin, champion),
        no_fall("class", found.classes, drops[0], 1),
        no_fall("slice", found.slices, drops[1], min_slice),
    ]


def not_compared(why: str) -> list[Rule]:
    """The same three where nothing was compared."""
    return [_rule(name, None, why) for name in ("better", "no class falls", "no slice falls")]


def answers(difference: float | None, n_images: int, tolerance: float, problem: str | None) -> Rule:
    """The registered files, fetched anew, answer in a fresh process as the predictions say."""
    name = "answers"
    if problem is not None or difference is None:
        return Rule(name, False, None, tolerance, f"the registered model fails: {problem}")
    told = f"{n_images} images answered in a fresh process, largest difference {difference:.1e}"
    return Rule(name, difference <= tolerance, difference, tolerance, f"{told}; at most {tolerance:g}")


def at_most(name: str, told: str, value: float | None, limit: float) -> Rule:
    """A load time or a size; None where there was nothing to measure, which `answers` tells."""
    if value is None:
        return Rule(name, None, None, limit, "not measured")
    return Rule(name, value <= limit, value, limit, f"{told}; at most {limit:g}")


def record(judgement: Judgement, quality: Sequence[Rule], mechanics: Sequence[Rule]) -> dict[str, Any]:
    """The judgement and its rules in JSON values."""
    return {
        "promoted": judgement.promoted,
        "sentence": judgement.sentence,
        "quality": [asdict(rule) for rule in quality],
        "mechanics": [asdict(rule) for rule in mechanics],
    }


def _has_fallen(part: Apart, limit: float) -> bool:
    return part.value < -limit - _ROUNDING and (part.ends is None or part.ends.high < 0)


def _of(part: Apart) -> str:
    if part.ends is None:
        return f"{part.value * 100:+.1f} points"
    return _points(part.value, part.ends.low, part.ends.high)


def _points(value: float, low: float, high: float) -> str:
    return f"{value * 100:+.1f} [{low * 100:+.1f}, {high * 100:+.1f}] points"


def _input(one: Mapping[str, Any]) -> str:
    return f"{one.get('size_px')} px, {one.get('channels')} channel(s), {one.get('fit')}"


def _failed(rules: Sequence[Rule]) -> list[str]:
    return [rule.name for rule in rules if rule.passed is False]


def _rule(name: str, passed: bool | None, sentence: str) -> Rule:
    return Rule(name, passed, None, None, sentence)
