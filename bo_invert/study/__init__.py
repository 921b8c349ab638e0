"""Studies: ask, tell, run, and their results."""

from bo_invert.study.study import Study as Study
