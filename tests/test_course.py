"""The course shows what it says: what a global model lacks, the support set brings."""

import numpy as np
import pandas as pd
import pytest

from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold, folds
from tamrl.study import course

Lesson = tuple[Samples, Fold, TamRLModel, TamRLModel]


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    """Return virtual towers, a fold, one model for all and one with a support set."""
    samples = course.classroom(72, 3)  # as in the notebook
    fold = folds(samples, 4)[0]
    alone = course.teach(samples, fold, 10, encoder="none")
    return samples, fold, alone, course.teach(samples, fold, 10)


def test_a_place_is_known_by_its_history_only(lesson: Lesson) -> None:
    """No facts, no satellite on the day; satellites in the support set."""
    samples, _, _, aware = lesson
    assert np.isnan(samples.static).all()
    data = course.without_daily_satellites(aware, samples)
    hidden = data.satellite.numpy()
    assert 0 < hidden.sum() < len(hidden)
    assert float(data.seen[..., hidden].sum()) == 0
    assert float(data.seen[..., ~hidden].float().mean()) > 0.5
    assert float(data.support.seen[..., hidden].mean()) > 0.3


def test_the_support_set_lowers_the_error_at_nearly_all_towers(lesson: Lesson) -> None:
    """The claim of the course, at towers that neither model has seen."""
    samples, fold, alone, aware = lesson
    models = {"alone": alone, "aware": aware}
    guess = {name: course.predict(m, samples, fold.test) for name, m in models.items()}
    production = course.errors(guess, samples, fold.test).query("flux == 'GPP'")
    assert len(production) == len(fold.test)
    assert (production.aware < production.alone).mean() > 0.8
    assert production.aware.mean() < 0.7 * production.alone.mean()
    assert course.imbalance(guess["aware"]) < 1e-5


def test_the_same_weather_gives_other_fluxes_for_other_kinds(lesson: Lesson) -> None:
    """With its own support set a tower gets its own prediction back; with another's, another."""
    samples, _, _, aware = lesson
    codes = samples.table.igbp.tolist()
    own, other = codes.index("CRO"), codes.index("OSH")
    frame = course.same_weather(aware, samples, own, [own, other])
    assert isinstance(frame.index, pd.DatetimeIndex)
    mine = course.predict(aware, samples, np.array([own]))[0, :, 0]
    np.testing.assert_allclose(frame.iloc[:, 0], mine, rtol=1e-5)
    assert abs(frame.iloc[:, 0] - frame.iloc[:, 1]).mean() > 0.2


def test_a_support_window_is_ten_day_means(lesson: Lesson) -> None:
    samples, *_ = lesson
    window = course.support_window(samples, 3, ("TA", "FPAR"))
    assert window.shape == (36, 2)
    column = samples.features.index("TA")
    assert window.TA.iloc[4] == pytest.approx(samples.x[3, 40:50, column].mean(), rel=1e-5)


def test_z_has_a_plane_and_one_model_for_all_has_no_z(lesson: Lesson) -> None:
    samples, _, alone, aware = lesson
    flat = course.task_embeddings(aware, samples)
    assert flat["first"].std() >= flat["second"].std() > 0
    with pytest.raises(ValueError, match="no encoder"):
        course.task_embeddings(alone, samples)


def test_imbalance_is_the_largest_gap() -> None:
    """NEE = RECO - GPP, missing days aside."""
    flux = np.array([[3.0, 2.0, -1.0], [3.0, 2.0, -0.75], [np.nan] * 3], np.float32)
    assert course.imbalance(flux) == pytest.approx(0.25)
