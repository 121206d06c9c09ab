"""What a study found, to look at: figures, and one page that needs nothing but a browser.

In: sites, sweeps, distances and transfer scores.
Out: matplotlib figures; one HTML file.
"""
