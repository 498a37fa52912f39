"""The physics is evaluated in physical units, and truth costs nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tamrl.model import loss
from tamrl.model.network import CARBON

TARGETS = ("GPP", "RECO", "NEE")
ONES, SD = torch.ones(2, 30), torch.ones(3)


def truth(seed: int = 0) -> torch.Tensor:
    gpp, reco = torch.rand(2, 2, 30, generator=torch.Generator().manual_seed(seed)) * 10
    return torch.stack([gpp, reco, reco - gpp], -1)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_truth_has_exactly_no_loss(seed: int) -> None:
    y = truth(seed)
    assert loss.data(y, y, ONES, torch.tensor([4.0, 3.0, 2.0])) == 0
    assert loss.balance(y, TARGETS, (CARBON,), ONES) == 0
    assert loss.non_negativity(y, TARGETS, ("GPP", "RECO"), ONES) == 0


def test_balance_is_in_physical_units() -> None:
    y = truth()
    y[..., 2] += 1.5  # gC m-2 d-1 out of balance, everywhere
    assert float(loss.balance(y, TARGETS, (CARBON,), ONES)) == pytest.approx(1.5**2, rel=1e-5)


def test_one_day_counts_as_much_as_all() -> None:
    """Terms are means over the days that count, be it a single one."""
    y, one = truth() * 0 - 1.5, torch.zeros(2, 30)
    one[1, 7] = 0.4
    for weight in (one, ONES):
        assert float(loss.balance(y, TARGETS, (CARBON,), weight)) == pytest.approx(1.5**2)
        assert float(loss.non_negativity(y, TARGETS, ("GPP",), weight)) == pytest.approx(1.5**2)
        hidden = (weight > 0).view(2, 3, 10, 1).float()
        x = torch.zeros_like(hidden)
        assert float(loss.reconstruction(x + 2, x, hidden)) == pytest.approx(4)


def test_scaled_fluxes_do_not_balance() -> None:
    """The published penalty acted on z-scores, where the truth itself is out of balance."""
    y = truth()
    z = (y - y.mean((0, 1))) / y.std((0, 1))
    assert loss.balance(z, TARGETS, (CARBON,), ONES) > 0.01


def test_unlabelled_and_unweighted_days_do_not_count() -> None:
    y, w = truth(), ONES.clone()
    w[0, :10] = 0
    pred = y.clone()
    pred[0, :10] += 100
    y[1, 5] = torch.nan
    pred[1, 5] = 1e6
    assert loss.data(pred, y, w, SD) == 0
    assert torch.isfinite(loss.data(pred, torch.full_like(y, torch.nan), w, SD))
    y[0, 0, 1] = torch.nan  # one missing flux keeps the others
    moved = torch.nan_to_num(y, nan=-1.0) + 1
    assert float(loss.data(moved, y, ONES, SD)) == pytest.approx(1.0, rel=1e-5)


def test_contrast_is_the_surprise_at_ones_own_window() -> None:
    """Of two places at right angles, at a temperature of 0.2: log(1 + exp(-5)); weighed once."""
    each = torch.eye(2)[:, None].repeat(1, 2, 1) * torch.tensor([3.0, 0.1])[:, None, None]
    value = loss.contrast(each, torch.ones(2, 2).bool(), torch.arange(2))
    assert float(value) == pytest.approx(math.log1p(math.exp(-5)), rel=1e-4)
    turned = loss.contrast(torch.stack([each[:, 0], each[:, 1].flip(0)], 1),
                           torch.ones(2, 2).bool(), torch.arange(2))  # fmt: skip
    assert float(turned) == pytest.approx(math.log1p(math.exp(5)), rel=1e-4)
    alone = loss.contrast(each, torch.tensor([[True, True], [False, True]]), torch.arange(2))
    assert float(alone) == 0


def test_contrast_prefers_like_windows_of_one_place() -> None:
    torch.manual_seed(0)
    place = torch.arange(8)
    e = torch.randn(8, 1, 16)
    used, alike = torch.ones(8, 2).bool(), torch.cat([e, e + 0.01 * torch.randn_like(e)], 1)
    mixed = torch.cat([e, e.roll(1, 0)], 1)
    assert loss.contrast(alike, used, place) < loss.contrast(mixed, used, place)
    same = loss.contrast(mixed, used, place * 0)  # one place only: nothing is unlike
    assert float(same) == pytest.approx(0, abs=1e-5)
    used[5, 1], others = False, place != 5  # a place with one window takes no part
    without = loss.contrast(mixed[others], used[others], place[others])
    assert float(loss.contrast(mixed, used, place)) == pytest.approx(float(without), rel=1e-5)


def test_reconstruction_counts_hidden_values_only() -> None:
    x = torch.randn(2, 2, 6, 3)
    hidden = torch.zeros_like(x)
    hidden[0, 0, 2] = 1
    rebuilt = x + 5
    rebuilt[0, 0, 2] = x[0, 0, 2] + 2
    assert float(loss.reconstruction(rebuilt, x, hidden)) == pytest.approx(4.0, rel=1e-5)


def test_total_weighs_named_terms() -> None:
    terms = {"data": torch.tensor(2.0), "balance": torch.tensor(3.0)}
    assert float(loss.total(terms, {"balance": 0.1})) == pytest.approx(2.3)
