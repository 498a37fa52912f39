"""A table says what its frame says: each number, its bounds and its unit, and not a row less."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tamrl import plots
from tamrl.plots.tables import FOLD, HEADINGS, Table
from tamrl.study.comparisons.effects import MAIN, NUMBERS


class Grid(HTMLParser):
    """Cells of a table by row and column, those that span several put into each."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.at, self.row, self.cells = (0, 0), -1, dict[tuple[int, int], str]()
        self.feed(table._repr_html_())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.row += tag == "tr"
        if tag not in ("th", "td"):
            return
        span = {key: int(value or 0) for key, value in attrs if key.endswith("span")}
        column = next(k for k in range(99) if (self.row, k) not in self.cells)
        for i in range(span.get("rowspan", 1)):
            for j in range(span.get("colspan", 1)):
                assert (self.row + i, column + j) not in self.cells, "cells overlap"
                self.cells[self.row + i, column + j] = ""
        self.spans, self.at = span, (self.row, column)

    def handle_data(self, data: str) -> None:
        if self.cells:
            for i in range(self.spans.get("rowspan", 1)):
                for j in range(self.spans.get("colspan", 1)):
                    self.cells[self.at[0] + i, self.at[1] + j] += data

    def lines(self) -> list[list[str]]:
        """Rows of plain text, all of one length, with spaces and minus signs of a keyboard."""
        rows = [[v for (i, _), v in sorted(self.cells.items()) if i == k]
                for k in range(self.row + 1)]  # fmt: skip
        assert len({len(row) for row in rows}) == 1, "the table is no rectangle"
        plain = str.maketrans({"\N{MINUS SIGN}": "-", "\N{FIGURE SPACE}": " ", "\xa0": " "})
        return [[text.translate(plain) for text in row] for row in rows]


def changes() -> pd.DataFrame:
    index = pd.MultiIndex.from_product([["LightGBM", "mean <b>"], ["GPP", "NEE"]])
    frame = pd.DataFrame(
        {"RMSE": [2.104, 1.7, 3.0, 0.004], "change": [-2.31, 0.0, 12.0, -0.04],
         "lower": [-3.14, -0.5, 10.0, np.nan], "upper": [-1.44, 0.5, 14.0, np.nan],
         "towers": [179, 12000, 3, 1], "met": [True, False, True, False]}, index,
    )  # fmt: skip
    return frame.rename_axis(["rival", "flux"])


def test_numbers_are_rounded_with_units_and_bounds_in_their_own_cell() -> None:
    """A bound is never rounded away because the value is a whole number."""
    assert Grid(plots.table(changes(), unit="gC")).lines() == [
        ["compared with", "flux", "RMSE (gC)", "change of RMSE (%), 90 % interval", "towers",
         "aim met"],
        ["LightGBM", "GPP", "2.10", "-2.3 [-3.1, -1.4]", "179", "yes"],
        ["LightGBM", "NEE", "1.70", "0.0 [-0.5, 0.5] ", "12,000", "no"],
        ["mean <b>", "GPP", "3.00", "12.0 [10.0, 14.0]", "3", "yes"],
        ["mean <b>", "NEE", "0.00", "0.0" + 13 * " ", "1", "no"],
    ]  # fmt: skip
    assert "-" not in re.sub("<[^>]*>", "", plots.table(changes()).html)
    assert Grid(plots.table(changes().iloc[[1]])).lines()[1][3] == "0.0 [-0.5, 0.5]"


def test_digits_and_headings_can_be_given_by_column() -> None:
    shown = plots.table(
        changes().iloc[:1], digits={"RMSE": 0, "change": ".2e"}, headings={"towers": "sites"},
        intervals=[("RMSE", "met", "towers")],
    )  # fmt: skip
    head, row = Grid(shown).lines()
    assert head[2:] == ["RMSE (gC m⁻² d⁻¹)", "change of RMSE (%), 90 % interval"]
    assert row[2:] == ["2 [yes, 179]", "-2.31e+00 [-3.14e+00, -1.44e+00]"]
    with pytest.raises(KeyError, match="least"):
        plots.table(changes(), intervals=[("RMSE", "least", "most")])


def test_a_pivoted_frame_and_a_series_keep_their_labels() -> None:
    wide = changes().pivot_table(["RMSE", "towers"], "rival", "flux")
    lines = Grid(plots.table(wide)).lines()
    assert lines[0] == ["compared with", *["RMSE (gC m⁻² d⁻¹)"] * 2, "towers", "towers"]
    assert lines[1] == ["compared with", "GPP", "NEE", "GPP", "NEE"]
    assert lines[2] == ["LightGBM", "2.10", "1.70", "179", "12,000"]
    assert Grid(plots.table(pd.Series({"n_folds": "5"}))).lines() == [["folds", "5"]]
    assert Grid(plots.table(pd.DataFrame())).lines() == [[]]
    assert plots.table(pd.DataFrame({"p": [np.inf, np.nan]})).html.count("<td>") == 2


@pytest.mark.parametrize("rows", [FOLD, FOLD + 1])
def test_a_long_table_folds_and_none_loses_a_row(rows: int) -> None:
    frame = pd.DataFrame({"RMSE": np.linspace(-1, 1, rows)}, pd.RangeIndex(rows, name="day"))
    html = plots.table(frame, "Errors")._repr_html_()
    assert html.count("<tr>") == rows + 1
    assert ("<details" in html) == (rows > FOLD)
    assert (f"Errors ({rows} rows)</summary>" in html) == (rows > FOLD)
    assert ("Errors</caption>" in html) == (rows <= FOLD)
    assert html.startswith("<details") or "overflow-x:auto" in html.partition(">")[0]


def test_the_frame_is_left_as_it_is_and_a_terminal_shows_it() -> None:
    frame = changes()
    shown = plots.table(frame)
    pd.testing.assert_frame_equal(frame, changes())
    assert repr(shown) == repr(frame)
    assert "mean &lt;b&gt;" in shown.html


def test_columns_of_a_comparison_are_called_by_words() -> None:
    """A raw name such as tower_RMSE is never a heading."""
    assert {*NUMBERS, *MAIN} <= {*HEADINGS} | {"lower", "upper", "mean_lower", "mean_upper"}
    assert not [text for text in HEADINGS.values() if re.search(r"_", text)]
