"""Which source to load, what of it and how to train it, chosen with the few labelled subjects.

In: a factory of fresh networks, sources, labelled batches.
Out: ranked sources, a plan, the trained model and the gain to expect, with what was measured.
"""
