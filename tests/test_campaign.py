"""Long comparisons: small tables that say what the predictions say, and no work done twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tamrl.errors import DataError, StudyError
from tamrl.evaluate import sums, tables
from tamrl.evaluate.crossval import cross_validate
from tamrl.evaluate.scores import balance_violation, compare, score_towers, summarise, timescales
from tamrl.evaluate.tables import Results, read, read_csv, violations
from tamrl.model.train import TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import Fold, folds
from tamrl.shipped.annual import AnnualPrior
from tamrl.shipped.blend import Blend
from tamrl.study import benchmark
from tamrl.study.comparisons import compute
from tamrl.study.comparisons.compute import run, slug
from tamrl.virtual.towers import virtual_predictors, virtual_towers

SEEDS = (0, 3)


@dataclass
class Guess:
    """Predict the truth with an error of its own; note each fit; die, or fail, if told to."""

    notes: Path
    noise: float = 1.0
    bias: float = 0.0
    open: float = 0.0  # imbalance that is added to NEE
    trouble: str = ""

    def fit(self, samples: Samples, train: np.ndarray, valid: np.ndarray, seed: int) -> Guess:
        if self.trouble == "killed" and (self.notes / "armed").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "failing" and (self.notes / "armed").exists():
            raise ValueError("out of luck")
        (self.notes / f"{self.noise}-{train.sum()}-{seed}").touch()
        self.seed = seed
        return self

    def predict(self, samples: Samples, sites: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng([self.seed, *sites])
        shape = (len(sites), len(samples.time), 3)
        out = np.nan_to_num(samples.y[sites]) + rng.normal(self.bias, self.noise, shape)
        out[..., 2] += self.open * rng.normal(size=shape[:2])
        out[~samples.has_drivers[sites]] = np.nan
        if self.trouble == "lazy":
            out[:, ::300] = np.nan
        return out.astype(np.float32)


@pytest.fixture(scope="module")
def samples() -> Samples:
    towers = virtual_towers(n=24, seed=0, years=(2001, 2004))
    made = make_samples(towers, virtual_predictors(towers))
    made.scored[3] &= np.cumsum(made.scored[3]) <= 10  # a short tower
    made.scored[5] = False  # and one that is predicted, but never scored
    return made


@pytest.fixture(scope="module")
def parts(samples: Samples) -> list[Fold]:
    return folds(samples, 3)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def fits(notes: Path) -> int:
    """Count the fits since the last call."""
    done = [path for path in notes.iterdir() if path.name != "armed"]
    for path in done:
        path.unlink()
    return len(done)


def guesses(notes: Path, **trouble: str) -> dict[str, partial[Guess]]:
    """Three models of different skill."""
    return {
        "good": partial(Guess, notes, 0.8, trouble=trouble.get("good", "")),
        "as usual": partial(Guess, notes, bias=0.1, open=0.3, trouble=trouble.get("usual", "")),
        "open": partial(Guess, notes, 1.3, -0.2, 3.0, trouble=trouble.get("open", "")),
    }


def go(
    notes: Path,
    samples: Samples,
    parts: list[Fold],
    models: Mapping[str, object],
    **options: object,
) -> tuple[str, ...]:
    """Run a comparison in this process."""
    out, kept = notes.parent / "results", notes.parent / "cv"
    settings = {"seeds": SEEDS, "jobs": 1, "say": lambda text: None, **options}
    return run(models, samples, parts, out=out, kept=kept, **settings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, samples: Samples, parts: list[Fold]) -> Path:
    """Folder of a comparison of the three models and the twin of one."""
    notes = tmp_path_factory.mktemp("finished") / "notes"
    notes.mkdir()
    models = guesses(notes)
    go(notes, samples, parts, {**models, "twin": models["as usual"]})
    return notes.parent / "results"


def test_scores_from_the_table_are_those_from_the_predictions(
    notes: Path, samples: Samples, parts: list[Fold]
) -> None:
    """Pooled, quartiles, classes, time scales, differences, balance, single seeds."""
    models = guesses(notes)
    assert go(notes, samples, parts, models) == tuple(models)
    found = read(notes.parent / "results", list(models))
    pred = cross_validate(samples, models, parts, SEEDS, notes.parent / "cv", jobs=1)

    def same(table: pd.DataFrame, direct: pd.DataFrame) -> None:
        pd.testing.assert_frame_equal(
            table[list(direct)], direct, rtol=2e-5, atol=2e-5, check_dtype=False
        )

    for by in (None, "igbp", "koppen_main"):
        same(sums.summarise(found.sums, by), summarise(pred, samples, by))
    same(sums.per_tower(found.sums), score_towers(pred, samples))
    same(sums.by_scale(found.sums), timescales(pred, samples))
    for rival in ("as usual", "open"):
        direct = compare(pred, samples, "good", rival)
        table = sums.compare(found.sums, "good", rival)
        pd.testing.assert_frame_equal(table, direct, rtol=1e-3, atol=2e-3)
        assert (table.upper < 0).all()  # the better one is found to be better
    direct = balance_violation(pred).set_index("model")
    assert violations(found, "open").violation.to_dict() == pytest.approx(
        direct.violation.to_dict(), rel=1e-5
    )
    assert violations(found, "open").days.to_dict() == direct.days.to_dict()
    members = cross_validate(samples, models, parts, SEEDS, notes.parent / "cv", 1, members=True)
    for seed in SEEDS:
        one = summarise(members.sel(seed=seed, drop=True), samples).set_index(["model", "flux"])
        mine = found.seeds[found.seeds.seed == str(seed)].set_index(["model", "flux"])
        for score in sums.SCORES:
            assert mine[score].to_dict() == pytest.approx(one[score].to_dict(), abs=2e-5)


def test_the_table_is_small_and_says_what_made_it(
    finished: Path, samples: Samples, parts: list[Fold]
) -> None:
    """A row has some 75 bytes, so that 20 models of 180 towers stay below 1.5 MB."""
    sizes = {path.stem: path.stat().st_size for path in finished.iterdir()}
    towers = len(samples.site)
    rows = 3 * towers
    assert sizes["towers"] + 20 * (sizes["good"] + 75 * 3 * (180 - towers)) < 1.5e6
    about, table = read_csv(finished / "as-usual.csv")
    assert len(table) == rows + 3 * len(SEEDS)
    assert about["model"] == "as usual"
    assert about["seeds"] == list(SEEDS)
    assert about["samples"] == samples.fingerprint
    assert len(about["code"]) == len(about["registry"]) == 16
    assert "bias=0.1" in about["settings"]
    assert about["seconds"] >= 0
    facts = read_csv(finished / "towers.csv")[1].set_index("site")
    for part in parts:
        assert (facts.fold[samples.site[part.test]] == part.name).all()
    assert (facts.km > 50).all()
    assert facts.n.sum() == samples.scored.sum()
    attrs = read(finished).attrs
    assert attrs["virtual"] == 1


def test_sums_are_additive(finished: Path) -> None:
    """Scores of a class are those of a table that holds only its towers; halves add up."""
    found = read(finished).sums
    for code, table in sums.summarise(found, "igbp").groupby("igbp"):
        own = (found.towers.igbp == code).to_numpy()
        cut = {name: getattr(found, name)[own] for name in ("n", "mean", "within")}
        cut |= {name: getattr(found, name)[:, own] for name in ("error", "square", "absolute")}
        part = replace(found, towers=found.towers[own].reset_index(drop=True), **cut)
        pd.testing.assert_frame_equal(
            table.drop(columns="igbp").reset_index(drop=True), sums.summarise(part)
        )
    pooled = sums.summarise(found).set_index(["model", "flux"])
    halves = sums.summarise(found, "fold")
    squares = (halves.RMSE**2 * halves.days).groupby([halves.model, halves.flux]).sum()
    expected = (pooled.RMSE**2 * pooled.days).to_dict()
    assert squares.to_dict() == pytest.approx(expected)


def test_the_interval_comes_from_drawing_towers_and_is_paired(finished: Path) -> None:
    """The same draws for both models: against itself, no uncertainty is left."""
    found = read(finished).sums
    twin = sums.compare(found, "as usual", "twin")
    assert (twin[["change", "lower", "upper"]] == 0).all(axis=None)
    one = sums.compare(found, "good", "open", n_boot=200, seed=4)
    times = np.random.default_rng(4).multinomial(
        len(found.n), [1 / len(found.n)] * len(found.n), 200
    )
    good, bad = (found.square[found.models.index(m), :, 0] for m in ("good", "open"))
    drawn = [100 * (np.sqrt((t * good).sum() / (t * bad).sum()) - 1) for t in times]
    assert one.lower[0] == pytest.approx(np.quantile(drawn, 0.05))
    assert one.upper[0] == pytest.approx(np.quantile(drawn, 0.95))


def contents(folder: Path) -> dict[str, bytes]:
    """Read all files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_nothing_is_computed_twice_and_what_changed_is(
    notes: Path, samples: Samples, parts: list[Fold]
) -> None:
    models = guesses(notes)
    go(notes, samples, parts, models)
    assert fits(notes) == 3 * len(parts) * len(SEEDS)
    folder = notes.parent / "results"
    before = contents(folder)
    assert go(notes, samples, parts, models) == ()
    assert fits(notes) == 0
    assert contents(folder) == before

    for path in (notes.parent / "cv").iterdir():  # a clone has the tables, not the predictions
        path.unlink()
    assert go(notes, samples, parts, models) == ()
    models["as usual"] = partial(models["as usual"], bias=0.5)
    assert go(notes, samples, parts, models) == ("as usual",)
    assert fits(notes) == len(parts) * len(SEEDS)
    after = contents(folder)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"as-usual.csv", "oracles/as-usual.csv"}
    assert go(notes, samples, parts, {"good": models["good"]}, seeds=[0, 3, 4]) == ("good",)
    assert read(folder).about.seeds["good"] == [0, 3, 4]


def in_a_process(notes: Path, samples: Samples, parts: list[Fold]) -> None:
    """Run a comparison whose second model ends the process."""
    go(notes, samples, parts, guesses(notes, usual="killed"))


def test_a_killed_campaign_goes_on_with_the_next_model(
    notes: Path, samples: Samples, parts: list[Fold]
) -> None:
    (notes / "armed").touch()
    process = multiprocessing.get_context("spawn").Process(
        target=in_a_process, args=(notes, samples, parts)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    names = list(guesses(notes))
    found = read(notes.parent / "results", names)
    assert found.sums.models == ("good",)
    assert found.missing == ("as usual", "open")
    assert fits(notes) == len(parts) * len(SEEDS)
    (notes / "armed").unlink()
    assert go(notes, samples, parts, guesses(notes, usual="killed")) == ("as usual", "open")
    assert fits(notes) == 2 * len(parts) * len(SEEDS)
    assert read(notes.parent / "results", names).sums.models == tuple(names)


def test_one_failing_model_does_not_cost_the_others(
    notes: Path, samples: Samples, parts: list[Fold]
) -> None:
    (notes / "armed").touch()
    with pytest.raises(StudyError, match=r"1 of 3 models failed.*as usual: .*out of luck"):
        go(notes, samples, parts, guesses(notes, usual="failing"))
    assert read(notes.parent / "results").sums.models == ("good", "open")


def test_models_on_other_days_are_refused(notes: Path, samples: Samples, parts: list[Fold]) -> None:
    """Other folds, other scored days, other labels, missed days: none may join a comparison."""
    models = guesses(notes)
    go(notes, samples, parts, {"good": models["good"]})
    with pytest.raises(DataError, match=r"towers.csv holds other towers, folds.*--out"):
        go(notes, samples, folds(samples, 4), models)
    fewer = replace(samples, scored=samples.scored & (np.arange(len(samples.time)) > 60))
    with pytest.raises(DataError, match=r"towers.csv holds other"):
        go(notes, fewer, parts, models)
    with pytest.raises(DataError, match=r"towers.csv holds other"):
        go(notes, replace(samples, y=samples.y * 1.1), parts, models)
    with pytest.raises(DataError, match=r"model lazy predicts \d+ of \d+ scored days"):
        go(notes, samples, parts, {"lazy": partial(Guess, notes, trouble="lazy")})
    with pytest.raises(DataError, match="two of them share a file"):
        go(notes, samples, parts, {"a b": models["good"], "a-b": models["open"]})
    go(notes, samples, parts, models)
    folder = notes.parent / "results"
    path = folder / "open.csv"
    text = path.read_text()
    path.write_text(text.replace('"days": "', '"days": "0'))
    with pytest.raises(DataError, match=r"open.csv stands on other towers"):
        read(folder)
    path.write_text("\n".join(text.splitlines()[:-30]))
    with pytest.raises(DataError, match=r"open"):
        read(folder, list(models))
    path.write_text("model,site\n")
    with pytest.raises(DataError, match=r"open.csv: no table of a comparison"):
        read(folder)


def test_a_folder_without_tables_holds_no_model(tmp_path: Path) -> None:
    """Every later step bears it: empty tables with their columns."""
    found = read(tmp_path / "none", ["a", "b"])
    assert isinstance(found, Results)
    assert found.missing == ("a", "b")
    for table in (
        sums.summarise(found.sums),
        sums.summarise(found.sums, "igbp"),
        sums.per_tower(found.sums),
        sums.by_scale(found.sums),
        found.seeds,
        violations(found, "a"),
    ):
        assert len(table) == 0
        assert "RMSE" in table or "violation" in table
    assert slug("TAM-RL, 3 seeds") == "TAM-RL-3-seeds"
    assert tables.read(tmp_path).sums.models == ()


def test_a_table_tells_where_its_networks_learnt() -> None:
    net = TamRLModel(device="cuda")
    assert compute.device(net) == "cuda"
    assert compute.device(AnnualPrior(net)) == "cuda"
    assert compute.device(TamRLModel(device="auto")) in ("cuda", "mps", "cpu")
    assert compute.device(Blend((Boosting(), net), (1, 1))) == "cuda"
    assert compute.device(Blend((AnnualPrior(Boosting()), Boosting()), (1, 1))) is None


def test_seconds_on_a_gpu_are_not_held_against_those_of_a_core() -> None:
    about = pd.DataFrame(
        {"seeds": [[0, 1, 2]] * 3, "folds": 10, "seconds": [300.0, 30.0, 600.0]},
        index=pd.Index(["ours", "on a GPU", "slow"], name="model"),
    )
    about["device"] = ["cpu", "cuda", None]
    found = replace(tables.read("nowhere"), about=about)
    table = benchmark.cost(found)
    assert table["seconds a fit"].tolist() == [10, 1, 20]
    said = benchmark.cost_in_words(table, "ours")
    assert "on a GPU" not in said
    assert "the quickest, slow, takes 20.0 s" in said
