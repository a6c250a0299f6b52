"""As ``start_plain.py``, in a main module that imports NumPy, as most programs that have processes to start do."""

from __future__ import annotations

import numpy as np
from start_plain import main

LIMIT = np.float64(1.0)  # something that needs the import


if __name__ == "__main__":
    main()
