"""Which tensors of a network can be replaced, and by what.

In: a target and a source, each a model, a checkpoint or tensors by name.
Out: sites, matched between the two; swaps, which put other values at one or more of them.
"""
