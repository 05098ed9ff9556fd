"""The benchmark: what the store costs, as ratios against named baselines taken in the same run.

Run it with `python -m bench` from the root of the repository. It stands beside the tests, above the
public names of `frontdesk`, and reaches for nothing that is private there. A group of measurements
is one module with a function `measure(plan)` that returns a `Section`; `__main__` lists them.
"""
