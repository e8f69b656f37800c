"""The largest errors of this installation, in ULP: ``python -m fastbp verify``."""
