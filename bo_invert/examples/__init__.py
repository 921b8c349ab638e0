"""Ready problems, each with its truth check. ``bo_invert.problem("name")`` makes one."""
