"""Beside models by other hands: what differs, words that follow numbers, real towers."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from tamrl import plots
from tamrl.errors import DataError
from tamrl.evaluate.tables import stored
from tamrl.study import others
from tamrl.study.comparisons.models import ENSEMBLE, INFORMED
from tamrl.study.comparisons.published import HELD_OUT

Tables = dict[str, pd.DataFrame]


@pytest.fixture
def tables() -> Tables:
    return others.load()


def test_what_differs_stands_beside_every_rival(tables: Tables) -> None:
    """Those of this study were held out; a value of the page says for each what differs."""
    said = others.values(tables)
    for name in ("networks", "pmodel", "products"):
        table = tables[name]
        assert table.differs.str.len().min() > 20
        assert set(table.model[table.differs == HELD_OUT]) == {ENSEMBLE, *INFORMED}
        assert all(said[f"differs_{m.split(',')[0].lower()}"] for m in table.model)


def test_words_follow_the_numbers(tables: Tables) -> None:
    """The better rival decides; a product is counted when it is ahead, unless it saw the labels."""
    said, networks, products = others.values(tables), tables["networks"], tables["products"]
    assert said["networks_word"] == "lower than"
    networks.loc[networks.model == "LSTM, GECO Bern", "RMSE"] = networks.RMSE.min() / 2
    products.loc[products.model.isin(["MODIS", others.NOT_UNSEEN]), "RMSE"] = 1e3
    products.loc[(products.model == "GOSIF") & (products.labels == "OzFlux"), "RMSE"] = 1.0
    changed = others.values(tables)
    assert changed["networks_word"] == "higher than"
    assert changed["networks_best"] == "LSTM, GECO Bern"
    assert changed["networks_change"] == "+100 %"
    assert "MODIS" in said["ahead_OzFlux"]
    assert changed["ahead_OzFlux"].startswith("GPP: GOSIF")
    assert "GOSIF" not in changed["ahead_FLUXNET2015"]
    assert others.NOT_UNSEEN not in said["ahead_OzFlux"] + said["ahead_FLUXNET2015"]
    labels = tables["labels"]
    assert said["order_word"] == "is the same"
    labels.loc[(labels.model == ENSEMBLE) & (labels.labels == "daytime"), "RMSE"] = 9.0
    assert others.values(tables)["order_word"] == "changes"


def test_labels_differ_alike_from_either_side(tables: Tables) -> None:
    """One processing errs against the other as the other against it, in each flux."""
    table = tables["products"]
    other = table[table.model == others.FLUXNET].set_index("flux").RMSE
    assert others.gap(tables) == pytest.approx(dict(other))


def test_tables_that_are_missing_or_mixed_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks networks.csv.*tamrl compare published"):
        others.load(tmp_path / "none")
    folder = shutil.copytree(stored("published"), tmp_path / "some")
    rest = (folder / "labels.csv").read_text().partition("\n")[2]
    (folder / "labels.csv").write_text(f'# {{"samples": "of others"}}\n{rest}')
    with pytest.raises(DataError, match="different towers or data"):
        others.load(folder)


def test_scores_of_the_authors_are_theirs_alone() -> None:
    """Medians that they committed, by split; none of this study stands among them."""
    table = others.peers("koppen")
    assert table.model.str.startswith("authors: ").all()
    assert table.set_index("model").loc["authors: TAM-RL, minimal", "GPP R2"] == 0.6443
    with pytest.raises(ValueError, match="unknown split 'biome'; there are igbp, koppen"):
        others.peers("biome")


def test_figures_show_every_model_and_both_labels(tables: Tables) -> None:
    """A row a model, a mark a label, a line where one label lies from the other."""
    table, apart = others.monthly(tables), others.gap(tables)
    axes = plots.beside_others(table, "RMSE", apart, "one label against the other").axes
    assert [ax.get_title() for ax in axes] == ["GPP", "RECO", "NEE"]
    assert [len(ax.get_yticks()) for ax in axes[:1]] == [table.model.nunique()]
    for ax in axes:
        marks = [c for c in ax.collections if hasattr(c, "get_sizes")]
        drawn = sum(len(c.get_offsets()) for c in marks if len(c.get_sizes()))
        assert drawn == (table.panel == ax.get_title()).sum()
        assert ax.lines[0].get_xdata()[0] == apart[ax.get_title()]


def test_tables_of_a_page_begin_with_what_differs(tables: Tables) -> None:
    """A row is known by what tells it apart; columns that say the same in each row are left out."""
    networks, products = (others.beside(tables[name]) for name in ("networks", "products"))
    assert networks.index.names == ["model"]
    assert set(products.index.names) == {"flux", "labels", "model"}
    assert products.index.is_unique
    assert [*networks][:2] == [*products][:2] == ["differs", "RMSE"]
    assert others.sizes(tables).loc["products", "months"] == tables["products"].months.max()
