"""Ready problems, each with its truth check. ``bo_invert.ready_problem("name")`` makes one."""
