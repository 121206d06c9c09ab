"""Training with what was reused: which attempts a study makes, and what they reach.

In: plans, sources and numbers of subjects.
Out: trained models and their scores in the store.
"""
