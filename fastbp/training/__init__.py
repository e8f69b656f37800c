"""One call of ``fit`` or ``predict``: epochs, steps in slices, threads; knows no model class."""
