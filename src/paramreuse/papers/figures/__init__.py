"""The papers' figures 3 to 14: their numbers as tables, and the drawings of these.

In: what the arms measured.
Out: one table and one drawing per figure.
"""
