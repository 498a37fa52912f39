"""Cross-validation: no leak, nothing computed twice, nothing lost, nothing stale."""

import io
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.errors import DataError, StudyError
from tamrl.evaluate.crossval import cross_validate
from tamrl.parallel import VISIBLE, in_parallel, own_gpu, pin_gpu
from tamrl.samples.splits import Fold
from tamrl.shipped.blend import Blend


@dataclass(frozen=True)
class Samples:
    """Six towers, five days; the fluxes of a tower are its number."""

    shift: float = 0.0
    site: ClassVar[np.ndarray] = np.array(list("ABCDEF"))
    time: ClassVar[np.ndarray] = np.arange("2001-01-01", "2001-01-06", dtype="datetime64[D]")
    table: ClassVar[pd.DataFrame] = pd.DataFrame({"igbp": "GRA", "lat": range(6), "lon": 10.0})
    targets: ClassVar[tuple[str, ...]] = ("GPP", "RECO", "NEE")

    @property
    def y(self) -> np.ndarray:
        return np.arange(6.0)[:, None, None] * np.ones((6, 5, 3)) + self.shift

    @property
    def fingerprint(self) -> str:
        return str(self.y.sum())


def fold(name: str, *towers: tuple[int, int]) -> Fold:
    return Fold(name, *map(np.array, towers))


FOLDS = [fold("0", (2, 3), (4, 5), (0, 1)), fold("1", (0, 1), (5, 4), (2, 3))]


@dataclass
class Mean:
    """Predict the mean of all towers that it is given, plus the seed; note each fit in a folder."""

    version: ClassVar[int] = 1
    notes: Path
    shift: float = 0.0

    def fit(self, samples: Samples, train: np.ndarray, valid: np.ndarray, seed: int) -> "Mean":
        towers = np.union1d(train, valid)
        name = f"{''.join(samples.site[towers])}-{seed}"
        (self.notes / name).write_text(os.environ.get("OMP_NUM_THREADS", ""))
        if (self.notes / "broken").exists() and name.startswith("AB"):
            raise ValueError("out of luck")
        self.value = samples.y[towers].mean() + seed + self.shift
        return self

    def predict(self, samples: Samples, sites: np.ndarray) -> np.ndarray:
        out = np.full((len(sites), 5, 3), self.value, np.float32)
        out[0, 0] = np.nan
        return out


class Secretive:
    """A model that hides its settings."""


def fits(notes: Path) -> set[str]:
    """Return which fits were done since the last call."""
    names = {path.name for path in notes.iterdir() if path.name != "broken"}
    for name in names:
        (notes / name).unlink()
    return names


def run(notes: Path, samples: Samples | None = None, **kwargs: object) -> xr.Dataset:
    """Cross-validate the mean with two seeds in this process."""
    shift = kwargs.pop("shift", 0.0)
    kwargs = {"folds": FOLDS, "seeds": [0, 2], "out": notes.parent / "runs", "jobs": 1} | kwargs
    return cross_validate(samples or Samples(), {"mean": partial(Mean, notes, shift)}, **kwargs)


def test_no_tower_is_predicted_by_a_model_that_saw_it(notes: Path) -> None:
    ds = run(notes)
    assert (ds.GPP.dims, ds.GPP.units) == (("model", "site", "time"), "gC m-2 d-1")
    # Towers A, B: mean of C to F (3.5) and of seeds 0, 2 (1); C, D: mean of A, B, E, F (2.5).
    means = [4.5, 4.5, 3.5, 3.5, np.nan, np.nan]
    assert ds.NEE.sel(model="mean", time="2001-01-03").values == pytest.approx(means, nan_ok=True)
    assert np.isnan(ds.GPP.sel(site="A")[0, 0])  # a day without drivers stays missing
    assert (ds.seconds > 0).all()


def test_members_and_their_mean(notes: Path) -> None:
    every = run(notes, members=True)
    assert every.GPP.dims == ("model", "seed", "site", "time")
    assert every.GPP.sel(seed=2, site="A").values[0, 1] == 5.5
    xr.testing.assert_allclose(every.GPP.mean("seed", skipna=False), run(notes).GPP)


def test_nothing_is_computed_twice(notes: Path) -> None:
    first = run(notes)
    assert len(fits(notes)) == 4
    xr.testing.assert_identical(first, run(notes))
    assert fits(notes) == set()
    next((notes.parent / "runs").glob("mean-1-2-*.npz")).unlink()
    run(notes)
    assert fits(notes) == {"ABEF-2"}
    run(notes, seeds=[0, 2, 3])
    assert fits(notes) == {"ABEF-3", "CDEF-3"}


def test_a_mean_of_models_is_made_of_what_is_kept_of_them(notes: Path) -> None:
    """A part that stands in the comparison by itself is not fitted again, another one once."""
    run(notes)
    fits(notes)
    blend = partial(Blend, (Mean(notes), Mean(notes, 3.0)), (2, 1))
    settings = {"folds": FOLDS, "seeds": [0, 2], "out": notes.parent / "runs", "jobs": 1}
    ds = cross_validate(Samples(), {"blend": blend}, **settings)
    assert len(list((notes.parent / "runs").glob("part_of_blend-*.npz"))) == len(fits(notes)) == 4
    whole = blend().fit(Samples(), *(np.array(t) for t in ((2, 3), (4, 5))), 0)
    fits(notes)
    alone = whole.predict(Samples(), np.array([0, 1]))
    again = cross_validate(Samples(), {"blend": blend}, **{**settings, "seeds": [0]})
    np.testing.assert_allclose(again.GPP.sel(model="blend")[:2], alone[..., 0])
    # Means of towers, seeds and shifts: 5.5 for all three fluxes, of which two thirds can balance.
    assert float(ds.GPP.sel(site="B")[0, 0]) == pytest.approx((3.5 + 1 + 1) * 2 / 3)
    other = partial(Blend, (Mean(notes), Mean(notes, 3.0)), (1, 1))
    cross_validate(Samples(), {"other": other}, **settings)
    cross_validate(Samples(), {"the part alone": partial(Mean, notes, 3.0)}, **settings)
    assert fits(notes) == set()


def test_what_changes_is_computed_anew(notes: Path) -> None:
    run(notes)
    fits(notes)
    assert float(run(notes, shift=1.0).GPP.max()) == 5.5
    assert len(fits(notes)) == 4
    run(notes, Samples(shift=1.0))
    assert len(fits(notes)) == 4
    run(notes, folds=[replace(FOLDS[0], train=np.array([2])), FOLDS[1]])
    assert fits(notes) == {"CEF-0", "CEF-2"}
    run(notes, folds=[replace(FOLDS[0], name="renamed"), FOLDS[1]], seeds=[0])
    assert len(fits(notes)) <= 1


def test_one_failure_loses_nothing_else(notes: Path) -> None:
    (notes / "broken").touch()
    with pytest.raises(StudyError, match=r"2 of 4 jobs failed.*mean, fold 1.*out of luck"):
        run(notes)
    assert not list((notes.parent / "runs").glob("*.part"))
    fits(notes)
    (notes / "broken").unlink()
    run(notes)
    assert fits(notes) == {"ABEF-0", "ABEF-2"}


def test_processes_agree_on_one_thread(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (notes / "broken").touch()
    with pytest.raises(RuntimeError, match="2 of 4 jobs failed"):
        run(notes, jobs=2)
    assert (notes / "CDEF-0").read_text() == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    (notes / "broken").unlink()
    here = run(notes, out=notes.parent / "here")
    fits(notes)
    both = run(notes)  # fold 0 from the processes, fold 1 from here
    assert fits(notes) == {"ABEF-0", "ABEF-2"}
    xr.testing.assert_identical(here.drop_vars("seconds"), both.drop_vars("seconds"))
    left = {path.suffix for path in (notes.parent / "runs").iterdir()}
    assert left == {".npz"}  # the shared samples are gone


def test_a_damaged_result_is_named(notes: Path) -> None:
    run(notes)
    kept = next((notes.parent / "runs").glob("*.npz"))
    whole, other = kept.read_bytes(), io.BytesIO()
    np.savez(other, flux=np.zeros((1, 1, 1)), seconds=1.0)
    inside = whole[:60] + bytes(40) + whole[100:]
    for content in (whole[:50], b"", b"text", inside, other.getvalue()):
        kept.write_bytes(content)
        with pytest.raises(DataError, match=rf"{kept.name}.*delete it"):
            run(notes)


def test_a_model_that_hides_what_decides_its_predictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Secretive: .*does not give its settings"):
        cross_validate(Samples(), {"shy": Secretive}, FOLDS, [0], tmp_path, 1)
    with pytest.raises(DataError, match="Samples declares no version"):
        cross_validate(Samples(), {"old": Samples}, FOLDS, [0], tmp_path, 1)


def test_folds_that_leak(notes: Path) -> None:
    with pytest.raises(DataError, match="tower A is tested in two folds"):
        run(notes, folds=[FOLDS[0], FOLDS[0]])
    with pytest.raises(DataError, match="fold 0: tower C is trained on and tested"):
        run(notes, folds=[replace(FOLDS[0], test=np.array([2]))])


def test_wrong_shape_is_refused(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mean, "predict", lambda self, samples, sites: np.zeros((5, 3)))
    with pytest.raises(RuntimeError, match=r"shape \(5, 3\), expected \(2, 5, 3\)"):
        run(notes)


def test_gpus_are_assigned_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [own_gpu(w, 2, "4,GPU-7") for w in range(3)] == ["4", "GPU-7", "4"]
    assert own_gpu(1, 1) is own_gpu(1, 0) is None
    monkeypatch.setenv(VISIBLE, "2,5")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert in_parallel(os.environ.get, [(VISIBLE,)], 2) == ["2,5"]  # one task, in this process
    assert os.environ[VISIBLE] == "2,5"
    pin_gpu(3)
    assert os.environ[VISIBLE] == "5"
