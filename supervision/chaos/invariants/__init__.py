"""What always holds for processes, supervisors, names, monitors and calls, checked from outside."""
