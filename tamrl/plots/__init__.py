"""The figures of the book: each function takes tables or fields and returns a figure.

Nothing here knows of models; a module is loaded when one of its figures is asked for.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "comparisons": ["class_bias", "coverage_by_class", "forest", "reliability", "targets"],
        "cost": ["against_peer", "scaling"],
        "course": ["before_and_after", "embedding", "kinds", "model", "responses",
                   "supports"],
        "drivers": ["by_biome", "gap_curves", "gates", "importance", "label_curves", "memory"],
        "maps": [
            "against_reference", "flux_maps", "gain_curve", "hatched", "hovmoller", "limits",
            "mean_and_spread", "month_frame", "next_towers", "rank_correlations", "region",
            "towers_map", "withheld", "zonal",
        ],
        "monitor": ["monitor_anomaly", "monitor_record"],
        "scores": [
            "bars", "budget_bars", "country_bars", "density", "differences", "score_boxes",
            "series", "stacked_years", "violations",
        ],
        "style": ["BIOMES", "UNIT", "use_style"],
    },
)  # fmt: skip
