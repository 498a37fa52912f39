"""The protocol: cross-validation by tower, scores, intervals. It knows no model.

Read `learner` first, then `crossval`, `scores`, `timescales`, `conformal`, `intervals`, `tables`.
"""
