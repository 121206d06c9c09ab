"""How far source and target are apart, without running either.

In: two models, checkpoints, or tensors by name.
Out: distances per tensor, what they say of a common origin, effective BatchNorm parameters.
"""
