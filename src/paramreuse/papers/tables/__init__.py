"""The papers' tables, their numbers beside ours, and summaries over all arms.

In: what the arms measured.
Out: rows.
"""
