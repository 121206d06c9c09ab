"""The page that shows what all arms found, as HTML and as Markdown.

In: evidence, judged claims, figures and tables.
Out: files in the run folder.
"""
