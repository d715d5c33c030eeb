"""The doctor: whether a run can succeed, found out before it starts."""
