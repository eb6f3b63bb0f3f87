"""Evaluation: workflows played over benchmarks, judged, measured, and shown."""
