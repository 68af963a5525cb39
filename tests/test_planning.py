"""Settings of the ladder: the same from the main pipeline and from a study; errors name the place."""

import re

import pytest

from convflow.errors import ParamsError
from convflow.learning.augment import Augment
from convflow.learning.planning import rungs_of, search_of
from convflow.learning.probing import Search
from convflow.learning.tuning import Tuning
from convflow.learning.tuning_plan import check_blocks, tuning_of

PROBE = {"depths": "auto", "c": [1.0, 0.1], "folds": 3, "unsure": "soft"}
STEPS = {
    "method": "plain", "epochs": 2, "batch_size": 8, "lr": 0.1, "decay": 0.5, "weight_decay": 0.0, "ema": 0.9,
    "label_smoothing": 0.1, "runs": 2,
}  # fmt: skip
AUGMENT = {"rotate_degrees": 1.0, "shift": 0.1, "scale": 0.2, "brightness": 3.0, "contrast": 0.4}


def test_rungs_stand_in_the_order_in_which_they_are_climbed():
    assert rungs_of(["temperature", "views", "probe"], place="x") == ("probe", "views", "temperature")
    with pytest.raises(ParamsError, match=r"^a\.b\.rungs: \['tune'\] has nothing to stand on; add probe or"):
        rungs_of(["tune"], place="a.b")


def test_a_search_is_put_in_order():
    auto = ((4,), (3, 4), (2, 3, 4))
    assert search_of(PROBE, [2, 3, 4], seed=7, place="x") == Search(auto, (0.1, 1.0), 3, 7, "soft")
    given = PROBE | {"depths": [[4, 2, 4], [3]]}
    assert search_of(given, [2, 3, 4], seed=7, place="x").depths == ((2, 4), (3,))
    said = "x.probe.depths: [2, 4] is not among [3, 4], the stages whose features are kept; set it to auto"
    given["depths"] = [[3], [4, 2, 4]]
    with pytest.raises(ParamsError, match=re.escape(said)):
        search_of(given, [3, 4], seed=7, place="x.probe")


@pytest.mark.parametrize(("asked", "blocks"), [("all", None), (3, 3)])
def test_settings_of_a_tuning_hold_what_else_there_is(asked, blocks):
    tune = STEPS | {"blocks": asked, "augment": AUGMENT, "seed": 1, "device": "cpu"}
    found = tuning_of(tune, unsure="ignore", seed=5)
    assert found == Tuning(**STEPS, blocks=blocks, seed=5, unsure="ignore", augment=Augment(**AUGMENT))
    check_blocks(found, 4, place="x")
    if blocks:
        with pytest.raises(ParamsError, match=r"^x\.tune\.blocks: 3 of 3 stages; set it to all, or to less$"):
            check_blocks(found, 3, place="x.tune")
