"""How promising a source is before anything is trained: scores of its frozen features.

In: a network that holds a source's tensors, and a few labelled subjects.
Out: features per pixel, and one number per score: LogME, H-score, LEEP, CKA, heads, CC-FV.
"""
