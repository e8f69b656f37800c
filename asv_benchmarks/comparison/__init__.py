"""The families of comparisons that ``peers.py`` runs; import them only after it has set the cores.

A family is a module with ``report(options)``: it prints a table and returns a `Result` per line.
"""
