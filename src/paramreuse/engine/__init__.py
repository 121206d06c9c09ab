"""How outputs are computed while tensors of the target are replaced.

In: the target, batches of images, the tensors that a swap puts in.
Out: outputs, from whole passes (plain) or from only what depends on the swap (partial).
"""
