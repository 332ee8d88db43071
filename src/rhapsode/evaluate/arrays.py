"""Array types of this package."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int32]
"""Token ids, and numbers of n-grams: half the memory of int64."""
