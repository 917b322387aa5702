"""The machinery of supervisors. Private to `supervision`."""
