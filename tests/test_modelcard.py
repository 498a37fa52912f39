"""The model card says what weights and kept results say, and nothing that is out of date."""

from __future__ import annotations

from tamrl.evaluate import sums, tables
from tamrl.study.comparisons import modelcard, models


def test_the_card_is_that_of_the_weights_and_results() -> None:
    """`python -m tamrl.study.comparisons.modelcard` was run after either changed."""
    assert modelcard.CARD.read_text() == modelcard.text()


def test_its_numbers_are_those_of_the_benchmark() -> None:
    """Pooled RMSE of every flux stands in the card; so do rivals that did better, if any."""
    found = tables.read(modelcard.RESULTS)
    scores = sums.summarise(found.sums.select([models.OURS]))
    card = modelcard.CARD.read_text()
    for row in scores.itertuples():
        assert f"| {row.flux} | {row.RMSE:.2f} | {row.R2:.2f} |" in card
    assert "no bounds" not in card
