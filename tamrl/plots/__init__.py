"""The figures and tables of the book: each function takes tables or fields and draws them.

Nothing here knows of models; a module is loaded when one of its figures is asked for.
"""

import lazy_loader as lazy

FIGURES = {
    "comparisons": "beside_others class_bias coverage_by_class dumbbells forest reliability "
                   "scorecard waterfall",
    "curves": "against_peer before_and_after by_biome class_seasons embedding gap_curves gates "
              "importance kinds label_curves memory model responses supports",
    "maps": "against_reference annual flux_maps gain_curve hatched hovmoller limits next_towers "
            "rank_correlations region towers_map withheld zonal",
    "report": "prediction",
    "scores": "bars budget_bars country_bars density differences monitor_anomaly monitor_record "
              "score_boxes series stacked_years violations",
    "style": "BIOMES UNIT use_style",
    "tables": "table",
}  # fmt: skip
__getattr__, __dir__, __all__ = lazy.attach(
    __name__, submod_attrs={module: names.split() for module, names in FIGURES.items()}
)
