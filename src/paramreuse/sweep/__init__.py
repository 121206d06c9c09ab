"""Every swap measured: the scores of a network with tensors replaced, subject by subject.

In: target, source, batches, a score.
Out: a ``Sweep``, the counts behind each score, and intervals of what was lost.
"""
