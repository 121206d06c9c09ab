"""A first study for a folder of images and checkpoints.

In: a folder.
Out: the text of a study file with comments, and what a person would have to be asked.
"""
