"""A cell in your own hands, and what is asked without running one."""
