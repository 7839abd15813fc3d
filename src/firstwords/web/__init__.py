"""The local page: runs, reports, comparisons, a playground of minimal pairs, and the next words of a model.

It reads what runs wrote and asks their models; it trains nothing. Reports are the only thing that it ever writes.
"""
