"""From measured drops to a model that reuses what it can.

In: sweeps.
Out: verdicts, a ranking of sources, plans and their files; tensors loaded and frozen by a plan.
"""
