"""What the model promises: modulation that acts, closure that holds, no hidden dependence."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tamrl.model import loss
from tamrl.model.network import CARBON, Budget, Config, ConvLSTM, Dropout, TamRL

F, S, T = 5, 4, 40
BASE = Config(features=F, statics=S, hidden=12, latent=6, embed=4, dropout=0.0)


def inputs(b: int = 3, t: int = T, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Random drivers (b, t, F), process factors, statics and support with some values missing."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(b, t, F, generator=g)
    x[torch.rand(x.shape, generator=g) < 0.1] = torch.nan
    process = torch.rand(b, t, 2, generator=g) + 0.1
    support = torch.randn(b, 3, 12, F, generator=g)
    return x, process, torch.randn(b, S, generator=g), support


def build(**changes: object) -> TamRL:
    torch.manual_seed(1)
    return TamRL(replace(BASE, **changes)).eval()


def shake(net: TamRL) -> TamRL:
    """Move every parameter off its initial value, so that no modulation is at identity."""
    torch.manual_seed(2)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return net


def ready(net: TamRL) -> tuple[torch.Tensor, ...]:
    """Return what `TamRL.decode` takes: scaled drivers, seen, process factors, facts and z."""
    x, process, statics, support = inputs()
    facts = net.embed_site(statics)
    return *net.scale(x), process, facts, net.encode(*net.scale(support), facts)[0]


def test_modulation_is_identity_at_initialisation() -> None:
    net = build()
    *given, z = ready(net)
    assert torch.equal(net.decode(*given, z).flux, net.decode(*given, None).flux)


@pytest.mark.parametrize(("film", "to", "size"), [("film_x", "lstm", F), ("film_h", "latent", 12)])
def test_film_scales_and_shifts_independently(film: str, to: str, size: int) -> None:
    """What enters the LSTM, and what leaves it, is gamma times it and beta more, each its own."""
    net, entered = build(), []
    layer = getattr(net, to)
    layer.register_forward_pre_hook(lambda _, given: entered.append(given[0][..., :size]))
    given = ready(net)
    net.decode(*given)
    gamma, beta = getattr(net, film).bias.data.view(2, size).normal_()
    net.decode(*given)
    plain, modulated = entered
    expected = (1 + gamma) * plain + beta * (given[1] if film == "film_x" else 1)
    torch.testing.assert_close(modulated, expected)


def test_a_gate_opens_the_latent_features_of_its_own_flux() -> None:
    net = build(closure="soft")
    given = ready(net)
    net.gate.bias.data.view(3, -1)[0] = -100  # shuts those of GPP, whose head has no offset yet
    flux = net.decode(*given).flux
    assert (flux[..., 0] == 0).all()
    assert (flux[..., 1:] != 0).all()


def test_light_drives_gpp_and_warmth_respiration() -> None:
    """In the dark nothing is taken up, and respiration goes on."""
    net = shake(build())
    x, process, statics, support = inputs()
    before = net(x, process, statics, support).flux
    for i, name in enumerate(("GPP", "RECO")):
        none = process.clone()
        none[..., i] = 0
        flux = net(x, none, statics, support).flux
        assert (flux[..., i] == 0).all(), name
        assert torch.equal(flux[..., 1 - i], before[..., 1 - i])


def test_fluxes_that_are_not_negative_are_softplus_in_their_unit() -> None:
    """Half a standard deviation above the head's logit, times light or warmth; NEE closes."""
    net = build()
    net.y_sd.copy_(torch.tensor([4.0, 3.0, 9.0]))
    net.head.data.zero_()
    net.bias.data.copy_(torch.tensor([0.3, -1.0]))
    x, process, statics, support = inputs()
    process[0, :5] = torch.nan  # unknown: as on a mild sunny day
    flux = net(x, process, statics, support).flux
    known = torch.nan_to_num(process, nan=1.0)
    gpp, reco = (
        4 * known[..., 0] * math.log1p(math.exp(0.8)),
        3 * known[..., 1] * math.log1p(math.exp(-0.5)),
    )
    torch.testing.assert_close(flux, torch.stack([gpp, reco, reco - gpp], -1))


def test_heads_begin_with_a_norm_of_one() -> None:
    """Whatever the width, so that untrained fluxes vary as their labels do, in their unit."""
    for hidden in (400, 1600):
        norm = TamRL(replace(BASE, hidden=hidden)).head.detach().square().sum(1)
        assert norm.tolist() == pytest.approx([1.0, 1.0], rel=0.3)


def test_a_climatology_is_read_twice_round_and_averaged() -> None:
    """Where every month drives the gates alike, the cell fills as by hand (Shi et al. 2015)."""
    net = ConvLSTM(Config(F, S, latent=3, map_variables=2))
    width = net.pool.in_channels
    with torch.no_grad():
        for p in net.gates.parameters():
            p.zero_()
        i, f, o, g = net.gates.bias.view(4, width)
        i.fill_(-2.0)
        f.fill_(0.5)
        o.fill_(1.0)
        g.copy_(torch.linspace(-1, 1, width))
    cell, total = torch.zeros(width), torch.zeros(width)
    for _ in range(24):
        forget, write, show = (1 / (1 + math.exp(-v)) for v in (1.5, -2.0, 1.0))
        cell = forget * cell + write * torch.tanh(torch.linspace(-1, 1, width))
        total += show * torch.tanh(cell)
    expected = net.pool((total / 24).view(1, width, 1, 1))
    torch.testing.assert_close(net(torch.randn(1, 12, 2, 9, 9)), expected)


def test_units_live_in_the_scale() -> None:
    """Drivers, attributes and fluxes in other units, with their scale, give the same in these."""
    for closure in ("hard", "soft"):
        net = shake(build(closure=closure))
        x, process, statics, support = inputs()
        net.y_mean.copy_(torch.tensor([3.0, 2.0, -1.0]))
        before = net(x, process, statics, support).flux
        for name, to in (("x", 9.0), ("s", 5.0), ("y", 4.0)):
            getattr(net, f"{name}_mean").mul_(to).add_(0.0 if name == "y" else 2.0)
            getattr(net, f"{name}_sd").mul_(to)
        given = [9 * x + 2, process, 5 * statics + 2, 9 * support + 2]
        torch.testing.assert_close(net(*given).flux, 4 * before, rtol=1e-4, atol=1e-5)
        for i, sd, limit in ((0, 9, 8), (0, 9, -8), (2, 5, 5), (2, 5, -5)):
            fluxes = []
            for away in (limit * 0.9, limit, limit * 1.1):  # farther away they say no more
                far = torch.full_like(given[i], 2 + sd * away)
                fluxes.append(net(*given[:i], far, *given[i + 1 :]).flux)
            assert not torch.equal(*fluxes[:2])
            assert torch.equal(*fluxes[1:])


def test_padding_is_no_part_of_a_mean() -> None:
    """A window's embedding is the mean over its own days, a place's over its own windows."""
    net = shake(build())
    assert net.encoder is not None
    series, support = net.encoder.series, inputs()[-1][:, :1]
    padded = torch.cat([support, torch.full_like(support, torch.nan)], 2)
    hidden, _ = series.lstm(torch.cat(net.scale(padded[:, 0]), -1))
    each, _ = series(*net.scale(padded))
    torch.testing.assert_close(each[:, 0], series.pool(hidden[:, : support.shape[2]].mean(1)))


def test_a_year_seen_twice_says_no_more_than_once() -> None:
    """A place is a mean over its windows, a window over its days; neither is a sum."""
    net = shake(build())
    _, _, statics, support = inputs()
    facts = net.embed_site(statics)
    one, two = (net.encode(*net.scale(s), facts)[0] for s in (support[:, :1], support[:, [0, 0]]))
    torch.testing.assert_close(one, two)
    assert net.encoder is not None
    series, day = net.encoder.series, support[:, :1, :1]
    hidden, _ = series.lstm(torch.cat(net.scale(day[:, 0]), -1))
    torch.testing.assert_close(series(*net.scale(day))[0][:, 0], series.pool(hidden[:, 0]))


def test_what_is_switched_off_has_no_parameters() -> None:
    every, film = {"encoder", "film_x", "film_h", "gate"}, {"film_x", "film_h"}
    switches = (({"film": False}, film), ({"gates": False}, {"gate"}), ({"encoder": "none"}, every))
    for off, gone in switches:
        net = shake(build(**off))
        parts = {name.split(".")[0] for name, _ in net.named_parameters()}
        assert parts & every == every - gone
        x, process, statics, support = inputs()
        fluxes = [net(x, process, statics, s).flux for s in (support, support + 1)]
        assert torch.equal(*fluxes) == ("encoder" in gone)


def test_the_network_is_small() -> None:
    assert sum(p.numel() for p in TamRL(Config(27, 60)).parameters()) < 150_000


def test_support_changes_z_and_the_prediction() -> None:
    """But not by the order of its windows."""
    net = shake(build())
    x, process, statics, support = inputs()
    facts = net.embed_site(statics)
    z1, z2 = (net.encode(*net.scale(s), facts)[0] for s in (support, support + 1))
    assert (z1 - z2).abs().max() > 1e-3
    supports = (support, support + 1, support[:, [2, 0, 1]])
    a, b, c = (net(x, process, statics, s).flux for s in supports)
    assert (a - b).abs().max() > 1e-3
    torch.testing.assert_close(a, c, rtol=1e-5, atol=1e-5)


def test_batch_size_and_padding_do_not_matter() -> None:
    net = shake(build())
    x, process, statics, support = inputs()
    whole = net(x, process, statics, support).flux
    alone = net(x[1:2], process[1:2], statics[1:2], support[1:2]).flux
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-5, atol=1e-5)
    longer = torch.cat([support, torch.full_like(support, torch.nan)], 1)
    padded = net(x, process, statics, longer).flux
    torch.testing.assert_close(whole, padded, rtol=1e-5, atol=1e-5)
    later = net(torch.cat([x, x], 1), torch.cat([process, process], 1), statics, support).flux
    torch.testing.assert_close(whole, later[:, :T], rtol=1e-5, atol=1e-5)


def test_series_in_pieces_equals_series_at_once() -> None:
    """And days that only set the state change no flux."""
    net = shake(build())
    *days, facts, z = ready(net)
    whole = net.decode(*days, facts, z)
    first = net.decode(*(v[:, :17] for v in days), facts, z)
    rest = net.decode(*(v[:, 17:] for v in days), facts, z, first.state)
    pieces = torch.cat([first.flux, rest.flux], 1)
    torch.testing.assert_close(whole.flux, pieces, rtol=1e-5, atol=1e-5)
    late = net.decode(*days, facts, z, skip=17)
    torch.testing.assert_close(late.flux, whole.flux[:, 17:])
    torch.testing.assert_close(late.state, whole.state)


@pytest.mark.parametrize("encoder", ["bilstm", "convlstm", "both"])
@pytest.mark.parametrize("closure", ["hard", "soft"])
def test_every_parameter_gets_a_finite_nonzero_gradient(encoder: str, closure: str) -> None:
    net = shake(build(encoder=encoder, closure=closure, map_variables=3)).train()
    x, process, statics, support = inputs(b=4)
    facts = net.embed_site(statics)
    maps = torch.randn(4, 12, 3, 9, 9)
    s, seen = net.scale(support)
    shown = seen * (torch.rand(seen.shape[:3]) >= 0.4)[..., None]
    z, each, rebuilt = net.encode(s, shown, facts, maps)
    out = net.decode(*net.scale(x), process, facts, z)
    y, weight = torch.randn_like(out.flux), torch.ones(out.flux.shape[:2])
    terms = {
        "data": loss.data(out.flux, y, weight, net.y_sd),
        "balance": loss.balance(out.flux, BASE.targets, BASE.budgets, weight),
    }
    if rebuilt is not None and each is not None:
        terms["reconstruction"] = loss.reconstruction(rebuilt, s, seen - shown)
        terms["contrast"] = loss.contrast(each, torch.ones(4, 3).bool(), torch.arange(4))
    loss.total(terms, {}).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert 0 < p.grad.abs().max() < torch.inf, name


@given(st.floats(-50, 50), st.floats(0.1, 20), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_hard_closure_holds_on_any_input(shift: float, stretch: float, seed: int) -> None:
    net = shake(build())
    net.y_sd.copy_(torch.tensor([4.2, 2.8, 2.5]))
    x, process, statics, support = inputs(seed=seed)
    flux = net(x * stretch + shift, process, statics, support).flux
    gpp, reco, nee = flux.unbind(-1)
    assert torch.isfinite(flux).all()
    assert min(gpp.min(), reco.min()) >= 0
    assert ((nee - (reco - gpp)).abs() / (gpp + reco).clamp(min=1e-6)).max() <= 1e-5


def test_hard_closure_of_several_gases() -> None:
    gwp = Budget("CO2e", ("NEE", "CH4", "N2O"), (44 / 12, 16 / 12 * 27.0, 44 / 28 * 273.0))
    gases = (*BASE.targets, "CH4", "N2O", "CO2e")
    net = shake(build(targets=gases, budgets=(CARBON, gwp)))
    flux = net(*inputs()).flux
    for budget in (CARBON, gwp):
        off = loss.imbalance(flux, net.config.targets, budget).abs()
        assert (off / flux.abs().amax(-1).clamp(min=1)).max() <= 1e-5


def test_gates_are_per_flux_and_returned() -> None:
    net = shake(build(closure="soft"))
    gates = net(*inputs()).gates
    assert gates.shape == (3, 3, BASE.hidden)
    assert 0 < gates.min() < gates.max() < 2
    assert not torch.allclose(gates[:, 0], gates[:, 1])


def test_missing_drivers_are_masked_not_zero_valued() -> None:
    net = shake(build())
    x, process, statics, support = inputs()
    x[..., 2] = support[..., 2] = torch.nan
    fluxes = []
    for mean in (7.0, -3.0):  # a driver that is missing must not leak its mean or sd
        net.x_mean[2] = mean
        fluxes.append(net(x, process, statics, support).flux)
    assert torch.isfinite(fluxes[0]).all()
    assert torch.equal(*fluxes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_draws_as_pytorch_does(dtype: torch.dtype) -> None:
    """Same mask, same state of the generator after it, also where first days are left out."""
    h = torch.randn(3, 40, 8).to(dtype).requires_grad_()
    torch.manual_seed(5)
    expected, after = torch.nn.Dropout(0.2)(h), torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(Dropout(0.2)(h), expected)
    assert torch.equal(torch.rand(3), after)
    torch.manual_seed(5)
    assert torch.equal(Dropout(0.2)(h[:, 7:], 7), expected[:, 7:])
    torch.manual_seed(5)
    assert torch.equal(Dropout(0.0)(h), h)  # where none drops out, nothing is drawn
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))
    assert Dropout(0.2).eval()(h) is h
