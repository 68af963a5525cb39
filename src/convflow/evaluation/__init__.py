"""Predictions and how good they are: metrics, intervals, the operating point, curves and pages."""
