"""Which of thousands of checkpoints are nearest to a pilot, without data or model class.

In: a pilot, folders and buckets of checkpoints, a file that keeps their sketches.
Out: the nearest with their distances, and what does not fit, by name.
"""
