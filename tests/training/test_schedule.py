"""Schedules: warm-ups that fit, the constant rate and its decay, and peaks that are searched for."""

from __future__ import annotations

import pytest

from nasformer.errors import RequestError
from nasformer.recipes.named import demo
from nasformer.recipes.recipe import TrainRecipe, override
from nasformer.spaces.named import ARCHITECTURES
from nasformer.training.schedule import AUTO, ConstantThenDecay, Cosine, InverseSquareRoot
from nasformer.training.trainer import Training


def test_a_share_of_the_updates_is_the_same_schedule_as_so_many_updates() -> None:
    share, updates = InverseSquareRoot(peak=0.1, warmup=0.25), InverseSquareRoot(peak=0.1, warmup=10)
    assert [share.rate(n, 40) for n in range(1, 41)] == [updates.rate(n) for n in range(1, 41)]
    assert share.fitted(40) == updates
    assert updates.fitted(40) == updates
    assert share.shortened(8, 40) == InverseSquareRoot(peak=0.1, warmup=2)
    assert updates.shortened(8, 40) == InverseSquareRoot(peak=0.1, warmup=2)


def test_a_constant_rate_decays_in_a_straight_line_at_the_end() -> None:
    schedule = ConstantThenDecay(peak=1.0, warmup=4, decay=0.5)
    rates = [schedule.rate(n, 20) for n in range(1, 22)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:11] == [1.0] * 7
    assert rates[11:] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])


def test_a_search_and_the_fine_tuning_after_it_share_a_schedule() -> None:
    schedule = ConstantThenDecay(peak=1.0, decay=0.4).fitted(100)
    search, tuning = Training(updates=60, schedule=schedule), Training(updates=40, schedule=schedule)
    whole = Training(updates=100, schedule=ConstantThenDecay(peak=1.0, decay=0.4))
    rates = [search.rate(n) for n in range(1, 61)] + [tuning.rate(n, 60) for n in range(1, 41)]
    assert rates == [whole.rate(n) for n in range(1, 101)]
    assert tuning.rate(1, 60) == 1.0
    assert tuning.rate(40, 60) == pytest.approx(1 / 40)


def test_a_cosine_may_warm_up_and_one_without_is_as_before() -> None:
    warm = Cosine(peak=1.0, warmup=0.1)
    assert [warm.rate(n, 100) for n in (5, 10)] == [0.5, 1.0]
    assert warm.rate(11, 100) == 1.0
    assert warm.rate(101, 100) == pytest.approx(0.0, abs=1e-12)
    assert Cosine(peak=1.0).rate(1, 100) == 1.0


@pytest.mark.parametrize("peak", [0, -1e-3, True, "fast", float("nan")])
def test_a_peak_is_a_rate_or_auto(peak: object) -> None:
    with pytest.raises(RequestError, match="peak"):
        InverseSquareRoot(peak=peak)


@pytest.mark.parametrize("warmup", [-1, 1.5, "soon", True])
def test_a_warmup_is_a_number_of_updates_or_a_share(warmup: object) -> None:
    with pytest.raises(RequestError, match="expected a number of updates from 1 on, or a share"):
        InverseSquareRoot(warmup=warmup)


def test_a_rate_as_yaml_reads_it_and_a_warmup_with_a_unit() -> None:
    assert InverseSquareRoot(peak="2e-3", warmup="10k") == InverseSquareRoot(peak=2e-3, warmup=10_000)


def test_a_rate_that_is_not_known_yet_is_not_used() -> None:
    with pytest.raises(AssertionError, match="before the training begins"):
        Training(updates=10).rate(1)


def test_rates_are_found_unless_a_recipe_says_otherwise() -> None:
    recipe = TrainRecipe(architecture=ARCHITECTURES["transformer"]())
    assert recipe.training.schedule.peak == demo().fine_tune.schedule.peak == AUTO


def test_a_warmup_beyond_the_training_is_refused() -> None:
    recipe = TrainRecipe(architecture=ARCHITECTURES["transformer"]())
    with pytest.raises(RequestError, match="warmup is 200 updates, and the training has 150"):
        override(recipe, ["training.updates=150", "training.schedule.warmup=200"])
    long = ["strategy.training.schedule.warmup=5000", "fine_tune.schedule.warmup=5000"]
    with pytest.raises(RequestError, match=r"schedule\.warmup is 5,000 updates, and the training has 600"):
        override(demo(), long)


def test_a_published_schedule_forbids_auto() -> None:
    from nasformer.recipes.named import RECIPES

    peaks = [f"{place}.schedule.peak=auto" for place in ("strategy.training", "fine_tune")]
    with pytest.raises(RequestError, match="shrinknas-paper follows a published schedule"):
        override(RECIPES["shrinknas-paper"](), peaks)
    assert override(RECIPES["shrinknas-paper"](), [*peaks, "published=false"]).fine_tune.schedule.peak == AUTO
