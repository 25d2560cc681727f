"""Checks of what lies in deploy/, without starting any of it: schemas, and that files agree with each other."""
