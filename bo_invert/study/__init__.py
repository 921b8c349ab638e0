"""Studies: ask, tell, run."""

from bo_invert.study.study import Study as Study
