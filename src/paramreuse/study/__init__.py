"""A whole study: its file, its store, its stages.

In: a study file.
Out: a run folder with models, measurements, plans, tables and a page.
"""
