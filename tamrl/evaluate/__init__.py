"""The protocol: cross-validation by tower, scores, intervals. It knows no model.

Read `learner` (what a model must offer), `crossval`, `scores`, `timescales`, then `conformal` and
`intervals`, and `tables` (how results are stored).
"""
