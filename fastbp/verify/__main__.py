"""``python -m fastbp.verify``."""

import sys

from fastbp.verify.report import main

sys.exit(main())
