"""Experiments: small tables that give the scores of the predictions, and no work done twice."""

import multiprocessing
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tamrl.cli.app import app
from tamrl.errors import DataError, StudyError
from tamrl.evaluate import scores, tables
from tamrl.evaluate.crossval import cross_validate
from tamrl.evaluate.learner import walk
from tamrl.evaluate.scores import score_towers, scored_days, sum_days, summarise, violations
from tamrl.evaluate.tables import read, read_csv
from tamrl.evaluate.timescales import by_scale, sum_scales
from tamrl.model.train import TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import Fold, folds
from tamrl.shipped.annual import AnnualPrior
from tamrl.shipped.blend import Blend
from tamrl.study import adaptation
from tamrl.study.ablation import DEFAULT
from tamrl.study.comparisons import compute, models
from tamrl.virtual.towers import virtual_towers

SEEDS = (0, 3)
QUICK = ("--towers", "virtual", "--folds", "2", "--seeds", "1", "--epochs", "1", "--every", "20")


@dataclass
class Guess:
    """Predict the truth with an error of its own; note each fit; die, or fail, if asked to."""

    version: ClassVar[int] = 1
    notes: Path
    noise: float = 1.0
    bias: float = 0.0
    open: float = 0.0  # imbalance that is added to NEE
    trouble: str = ""

    def fit(self, samples: Samples, train: np.ndarray, valid: np.ndarray, seed: int) -> "Guess":
        armed = (self.notes / "armed").exists()
        if self.trouble == "killed" and armed:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.trouble == "failing" and armed:
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
    made = make_samples(virtual_towers(n=24, seed=0, years=(2001, 2004)))
    made.scored[3] &= np.cumsum(made.scored[3]) <= 10  # a short tower
    made.scored[5] = False  # and one that is predicted, but never scored
    return made


@pytest.fixture(scope="module")
def parts(samples: Samples) -> list[Fold]:
    return folds(samples, 3)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder: no stored table of the checkout is read or written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fits(notes: Path) -> int:
    """Count the fits since the last call."""
    done = [path for path in notes.iterdir() if path.name != "armed"]
    for path in done:
        path.unlink()
    return len(done)


def guesses(notes: Path, trouble: str = "") -> dict[str, partial[Guess]]:
    """Three models of different skill, the second in trouble."""
    return {
        "good": partial(Guess, notes, 0.8),
        "as usual": partial(Guess, notes, bias=0.1, open=0.3, trouble=trouble),
        "open": partial(Guess, notes, 1.3, -0.2, 3.0),
    }


def go(
    notes: Path, samples: Samples, parts: list[Fold], these: Mapping[str, object], **options: object
) -> tuple[str, ...]:
    """Run an experiment in this process."""
    settings = {"seeds": SEEDS, "jobs": 1, "say": lambda text: None, **options}
    out, stored = notes.parent / "results", notes.parent / "cv"
    return compute.run(these, samples, parts, out=out, stored=stored, **settings)


def contents(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder and of those in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_tables_score_as_predictions_do(notes: Path, samples: Samples, parts: list[Fold]) -> None:
    """Pooled, quartiles, classes, time scales, differences, balance, single seeds."""
    these = guesses(notes)
    assert go(notes, samples, parts, these) == tuple(these)
    results = read(notes.parent / "results", list(these))
    members = cross_validate(samples, these, parts, SEEDS, notes.parent / "cv", 1, members=True)
    pred = members.mean("seed", skipna=False)
    days = scored_days(pred, samples)
    sums = sum_days(days)

    def same(table: pd.DataFrame, direct: pd.DataFrame, tolerance: float = 2e-5) -> None:
        near = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
        pd.testing.assert_frame_equal(table[list(direct)], direct, **near)

    for by in (None, "igbp", "koppen_main"):
        same(summarise(results.sums, by), summarise(sums, by))
    names = ["model", "flux", "site", "n", *scores.SCORES]
    same(score_towers(results.sums), score_towers(sums)[names])
    same(by_scale(results.scales), by_scale(sum_scales(days)))
    for rival in ("as usual", "open"):
        table = scores.compare(results.sums, "good", rival)
        same(table, scores.compare(sums, "good", rival), 2e-3)
        assert (table.upper < 0).all()  # the better one is recognised
    same(violations(results.balance, "open"), violations(scores.imbalance(pred), "open"), 1e-3)
    for seed in SEEDS:
        one = summarise(scores.sum_up(members.sel(seed=seed, drop=True), samples))
        same(results.seeds[results.seeds.seed == str(seed)].reset_index(drop=True),
             one[["model", "flux", *scores.SCORES]])  # fmt: skip


@pytest.mark.slow
def test_only_what_changed_is_computed(notes: Path, samples: Samples, parts: list[Fold]) -> None:
    """Tables say what made them; without the predictions, as in a clone, they are still valid."""
    these = guesses(notes)
    go(notes, samples, parts, these)
    assert fits(notes) == 3 * len(parts) * len(SEEDS)
    folder = notes.parent / "results"
    before = contents(folder)
    for path in (notes.parent / "cv").iterdir():
        path.unlink()
    assert go(notes, samples, parts, these) == ()
    assert fits(notes) == 0
    assert contents(folder) == before
    about, table = read_csv(folder / "as-usual.csv")
    assert table.part.value_counts().to_dict() == {"mean": 3 * len(samples.site), "0": 3, "3": 3}
    assert (about["model"], about["versions"]) == ("as usual", "Guess 1")
    assert about["samples"] == samples.fingerprint
    assert about["key"] == compute.header(these["as usual"](), samples, parts, SEEDS)["key"]
    facts = read_csv(folder / "towers.csv")[1].set_index("site")
    for part in parts:
        assert (facts.fold[samples.site[part.test]] == part.name).all()
    assert (facts.km > 50).all()
    assert facts.n.sum() == samples.scored.sum()
    these["as usual"] = partial(these["as usual"], bias=0.5)
    assert go(notes, samples, parts, these) == ("as usual",)
    assert fits(notes) == len(parts) * len(SEEDS)
    after = contents(folder)
    assert {name for name in after if after[name] != before[name]} == {"as-usual.csv"}
    assert go(notes, samples, parts, {"good": these["good"]}, seeds=[0, 3, 4]) == ("good",)
    assert read(folder).about.seeds["good"] == [0, 3, 4]


def test_sums_are_additive(samples: Samples) -> None:
    """Scores of a class are those of its towers alone; the squares of classes add up."""
    rng = np.random.default_rng(0)
    site, time = np.nonzero(samples.scored)
    tower = np.unique(site, return_inverse=True)[1]
    observed = samples.y[site, time].astype(float)
    predicted = observed + rng.normal(size=(2, *observed.shape))
    facts, when = samples.table.iloc[np.unique(site)], pd.DatetimeIndex(samples.time)[time]
    facts = facts.assign(site=samples.site[np.unique(site)])
    names = ("a", "b"), ("GPP", "RECO", "NEE")
    sums = sum_days(scores.Days(*names, facts, tower, when, observed, predicted))
    classes = summarise(sums, "igbp")
    for code, table in classes.groupby("igbp"):
        alone = summarise(sums.isel(site=np.flatnonzero(sums.igbp == code)))
        table = table.drop(columns="igbp").reset_index(drop=True)
        pd.testing.assert_frame_equal(table, alone)
    pooled = summarise(sums).set_index(["model", "flux"])
    squares = (classes.RMSE**2 * classes.days).groupby([classes.model, classes.flux]).sum()
    assert squares.to_dict() == pytest.approx((pooled.RMSE**2 * pooled.days).to_dict())


def in_a_process(notes: Path, samples: Samples, parts: list[Fold]) -> None:
    """Run an experiment whose second model ends the process."""
    go(notes, samples, parts, guesses(notes, "killed"))


@pytest.mark.slow
def test_killed_and_gone_on_with(notes: Path, samples: Samples, parts: list[Fold]) -> None:
    (notes / "armed").touch()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=in_a_process, args=(notes, samples, parts))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    names = list(guesses(notes))
    results = read(notes.parent / "results", names)
    assert (results.models, results.missing) == (["good"], ("as usual", "open"))
    assert fits(notes) == len(parts) * len(SEEDS)
    (notes / "armed").unlink()
    assert go(notes, samples, parts, guesses(notes, "killed")) == ("as usual", "open")
    assert fits(notes) == 2 * len(parts) * len(SEEDS)
    assert read(notes.parent / "results", names).models == names


def test_one_failure_costs_no_other(notes: Path, samples: Samples, parts: list[Fold]) -> None:
    (notes / "armed").touch()
    with pytest.raises(StudyError, match=r"1 of 3 models failed.*as usual: .*out of luck"):
        go(notes, samples, parts, guesses(notes, "failing"))
    assert read(notes.parent / "results").models == ["good", "open"]


@pytest.mark.slow
def test_models_on_other_days_are_refused(notes: Path, samples: Samples, parts: list[Fold]) -> None:
    """Other folds, other scored days, other labels, missed days: none may join an experiment."""
    these = guesses(notes)
    go(notes, samples, parts, {"good": these["good"]})
    fewer = replace(samples, scored=samples.scored & (np.arange(len(samples.time)) > 60))
    other = replace(samples, y=samples.y * 1.1)
    for towers, split in ((samples, folds(samples, 4)), (fewer, parts), (other, parts)):
        with pytest.raises(DataError, match=r"towers.csv holds other towers, folds.*--out"):
            go(notes, towers, split, these)
    with pytest.raises(DataError, match=r"model lazy predicts \d+ of \d+ scored days"):
        go(notes, samples, parts, {"lazy": partial(Guess, notes, trouble="lazy")})
    with pytest.raises(DataError, match="two of them share a file"):
        go(notes, samples, parts, {"a b": these["good"], "a-b": these["open"]})
    go(notes, samples, parts, these)
    folder = notes.parent / "results"
    path = folder / "open.csv"
    text = path.read_text()
    path.write_text(text.replace('"days": "', '"days": "0'))
    with pytest.raises(DataError, match=r"open.csv is of other towers"):
        read(folder)
    path.write_text(text)
    lines = text.splitlines(keepends=True)
    towers = (folder / "towers.csv").read_text().splitlines(keepends=True)
    doubled = [*lines[:3], lines[2], *lines[3:]]
    for name, content, words in (
        ("open.csv", lines[:-30], "the table of open lacks numbers|models' tables differ in"),
        ("open.csv", ["model,site\n"], "open.csv: no table of a comparison"),
        ("open.csv", [text[:-3]], "open.csv: no table of a comparison .*the last is cut off"),
        ("open.csv", [text.replace("flux,", "flow,", 1)], "tables lack columns, or rows are doub"),
        ("open.csv", doubled, "tables lack columns, or rows are doubled"),
        ("copy.csv", lines, "copy.csv and .*open.csv are both of open; delete one"),
        ("towers.csv", towers[:-1], "towers.csv and the models' tables differ in"),
        ("towers.csv", [*towers, towers[-1]], "towers.csv: a tower is there twice"),
        ("towers.csv", [towers[0], towers[1].replace("lat,", "l,"), *towers[2:]], "lack columns"),
    ):
        kept = (folder / name).read_text() if (folder / name).is_file() else ""
        (folder / name).write_text("".join(content))
        with pytest.raises(DataError, match=words):
            read(folder, list(these))
        (folder / name).write_text(kept) if kept else (folder / name).unlink()
    (folder / ".#open.csv").write_text("of an editor")
    assert set(read(folder).models) == set(these)


def test_a_table_names_the_device_of_its_networks() -> None:
    net = TamRLModel(device="cuda")
    assert compute.device(AnnualPrior(net)) == "cuda"
    assert compute.device(TamRLModel(device="auto")) in ("cuda", "mps", "cpu")
    assert compute.device(Blend((Boosting(), net), (1, 1))) == "cuda"
    assert compute.device(Blend((AnnualPrior(Boosting()), Boosting()), (1, 1))) is None


# Computed last with other drivers; their pages say "not computed" until they are again.
PENDING = {
    "benchmark": {"CT-LSTM", "LSTM", "transformer"},
    "no-satellites": {models.PUBLISHED, models.INFORMED[1]},
}


@pytest.mark.parametrize("name", models.EXPERIMENTS)
def test_lists_of_models(name: str) -> None:
    """Others are compared with the first; epochs reach every network; tables are stored."""
    wanted = models.EXPERIMENTS[name]
    first = {"ablation": DEFAULT}
    assert wanted.names[0] == first.get(name, models.ENSEMBLE)
    assert set(wanted.again) <= set(wanted.names)
    assert wanted.seeds > 1 or name in ("climates", "biomes", "no-satellites")
    if name in ("climates", "biomes"):  # not again yet, as the models above
        assert not tables.stored(name).is_dir()
        return
    stored = read(tables.stored(name), wanted.names)
    promised = [n for n in wanted.names if n not in PENDING.get(name, ())]
    assert list(stored.models) == promised
    parts = [part for factory in wanted.models(1, "cpu").values() for part in walk(factory())]
    epochs = [part.recipe.epochs for part in parts if hasattr(part, "recipe")]
    assert set(epochs) == {1}


@pytest.mark.slow
def test_a_quick_look_goes_beside_stored_results_and_is_not_repeated(here: Path) -> None:
    """Other settings keep an experiment out of results/; a second call computes none."""
    arguments = ["compare", "benchmark", *QUICK, "--only", "climatology", "--only", "LSTM"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "virtual towers" in first.output
    assert not (here / "results").exists()
    (folder,) = (here / "runs" / "virtual" / "compare").iterdir()
    results = read(folder, models.EXPERIMENTS["benchmark"].names)
    assert set(results.models) == {"climatology", "LSTM"}
    assert "XGBoost" in results.missing
    written = contents(folder)
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert written == contents(folder)
    with pytest.raises(DataError, match="virtual towers"):  # never read as real ones
        models.load_results("benchmark", "fluxnet2015", folder)


def test_unknown_names_and_missing_tables(here: Path) -> None:
    assert CliRunner().invoke(app, ["compare", "contest"]).exit_code == 2
    with pytest.raises(ValueError, match="it has ensemble"):
        models.compute("benchmark", "virtual", only=["forest"])
    with pytest.raises(DataError, match="holds no table"):
        models.load_results("ablation", "fluxnet2015", here)


TORN: dict[str, tuple[bytes, str]] = {  # what a stored table is, what is said
    "empty": (b"", "towers.csv: no such table .*cut off"),
    "an image": (b"\x89PNG\xff\n", "towers.csv: no such table"),
    "cut off": (b"fold,site,way\n1,AA-A", "towers.csv: no such table .*cut off"),
    "of another kind": (b"a,b\n1,2\n", "it lacks before, days, error"),
}


@pytest.mark.parametrize("fault", TORN)
def test_a_torn_table_of_adaptation_is_named(fault: str, tmp_path: Path) -> None:
    content, words = TORN[fault]
    (tmp_path / "towers.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        adaptation.changes(tmp_path / "towers.csv")
