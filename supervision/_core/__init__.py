"""The machinery that all supervisors share. Private to `supervision`."""
