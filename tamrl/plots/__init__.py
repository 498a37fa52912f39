"""The figures of the book: each function takes tables or fields and returns a figure.

Nothing here knows of models; a module is loaded when one of its figures is asked for.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "comparisons": ["class_bias", "forest", "targets"],
        "cost": ["against_peer", "scaling"],
        "course": ["before_and_after", "embedding", "kinds", "responses", "supports"],
        "diagram": ["model_diagram"],
        "drivers": ["by_biome", "gap_curves", "gates", "importance", "label_curves", "memory"],
        "intervals": ["coverage_by_class", "reliability"],
        "maps": [
            "against_reference", "country_bars", "gain_curve", "hatched", "hovmoller", "limits",
            "mean_and_spread", "month_frame", "next_towers", "rank_correlations", "region",
            "withheld",
        ],
        "monitor": ["monitor_anomaly", "monitor_record"],
        "style": [
            "bars", "budget_bars", "density", "differences", "flux_maps", "score_boxes", "series",
            "stacked_years", "towers_map", "use_style", "violations", "zonal",
        ],
    },
)  # fmt: skip
