from __future__ import annotations

import numpy as np
import pytest

from balancer.comparison.paired_statistics import Interval, PairedTest, paired_tests
from balancer.comparison.verdicts import (
    Kind,
    judge,
    judge_oversampling,
    judge_reweighting,
    judge_slopes,
    judge_undersampling,
    rarity_slopes,
)


def made(low: float, high: float, adjusted: float) -> PairedTest:
    return PairedTest(Interval((low + high) / 2, low, high, 5), adjusted, adjusted)


NONE = made(-0.004, 0.004, 1.0)
TINY_DROP = made(-0.008, -0.002, 0.01)
DROP = made(-0.07, -0.03, 0.001)
GAIN = made(0.03, 0.07, 0.001)
WIDE = made(-0.2, 0.2, 1.0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # in the order: no effect, a tiny drop, a drop, a gain, a wide interval
        ("no effect", "supported supported refuted refuted unknown"),
        ("negative", "refuted supported supported refuted unknown"),
        ("not worse", "supported supported refuted supported unknown"),
    ],
)
def test_every_kind(kind: Kind, expected: str) -> None:
    found = [judge(test, kind) for test in (NONE, TINY_DROP, DROP, GAIN, WIDE)]
    names = [name.replace("not distinguishable", "unknown") for name in found]
    assert " ".join(names) == expected


def test_one_unit_tells_nothing() -> None:
    alone = paired_tests({"arm": [0.9]}, [0.1])["arm"]
    kinds: list[Kind] = ["no effect", "negative", "not worse"]
    assert {judge(alone, kind) for kind in kinds} == {"not distinguishable"}


def test_reweighting() -> None:
    found = judge_reweighting(
        {
            "low": {"k=2": NONE, "k=10": GAIN},
            "rest": {"k=2": NONE, "k=10": WIDE},
            "all": {"k": NONE},
        }
    )
    assert [each.outcome for each in found] == ["refuted", "not distinguishable", "supported"]
    assert found[0].claim == "a, low"
    assert found[0].statement == "Reweighting does not change the low-frequency classes."
    assert found[0].sentence == "Refuted: k=10 +0.050 (+0.030 to +0.070, n = 5), adjusted p 0.001."
    assert "k=10" in found[1].sentence
    assert "k=2" not in found[1].sentence
    with pytest.raises(ValueError, match="must have tests"):
        judge_reweighting({"low": {}})


def test_undersampling() -> None:
    classes = {"agriculture": DROP, "partly_cloudy": WIDE, "bare_ground": NONE, "road": DROP}
    found = {each.claim: each for each in judge_undersampling(NONE, DROP, classes)}
    assert {claim: each.outcome for claim, each in found.items()} == {
        "b, low": "supported",
        "b, rest": "supported",
        "b, agriculture": "supported",
        "b, partly_cloudy": "not distinguishable",
        "b, bare_ground": "supported",
    }
    assert found["b, rest"].sentence.startswith("Supported: the other classes changed by -0.050")


def test_oversampling() -> None:
    found = judge_oversampling(WIDE, {"road": NONE, "water": DROP, "haze": WIDE})
    assert [each.outcome for each in found] == ["not distinguishable", "supported"]
    assert found[1].sentence.startswith("Supported: water -0.050")
    nowhere = judge_oversampling(NONE, {"road": NONE, "water": GAIN})[1]
    assert nowhere.outcome == "refuted"
    unclear = judge_oversampling(NONE, {"road": NONE, "haze": WIDE})[1]
    assert unclear.outcome == "not distinguishable"
    assert "haze" in unclear.sentence
    assert "road" not in unclear.sentence


def test_rarity() -> None:
    counts = np.array([100, 200, 400])
    rng = np.random.default_rng(0)
    rising = np.log2(counts) * 0.05 + rng.normal(0, 0.005, size=(5, 3))
    slopes = rarity_slopes(rising, counts)
    assert slopes.mean() == pytest.approx(0.05, abs=0.005)
    assert judge_slopes(slopes).outcome == "supported"
    assert judge_slopes(-slopes).outcome == "refuted"
    assert judge_slopes([0.1, -0.1]).outcome == "not distinguishable"
    gappy = np.array([[0.1, np.nan, 0.3], [np.nan, np.nan, 0.3]])
    assert rarity_slopes(gappy, counts)[0] == pytest.approx(0.1)
    assert np.isnan(rarity_slopes(gappy, counts)[1])
    with pytest.raises(ValueError, match="units by classes"):
        rarity_slopes([[0.1]], counts)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="margin must be above 0; got 0"):
        judge(NONE, "no effect", 0)
    with pytest.raises(ValueError, match="kind must be one of no effect"):
        judge(NONE, "positive")  # type: ignore[arg-type]
