"""The protocol of the two papers: its arms, its figures and tables, and whether its claims hold.

In: a study file with arms.
Out: one run folder per arm, the papers' figures and tables, and a verdict on each claim.
"""
