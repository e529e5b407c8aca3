"""What a regularized training step costs: time and memory beside plain training and R-Drop.

Run with ``python -m tests.benchmarks.price``.
"""
