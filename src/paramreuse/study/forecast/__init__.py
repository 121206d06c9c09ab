"""What a study will take, from a few batches of each of its networks; nothing is trained to an end.

In: a study.
Out: time, memory and disk of each stage.
"""
