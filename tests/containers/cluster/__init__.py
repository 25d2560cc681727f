"""A cluster of real containers: everything of deploy/compose.yaml as people start it, then disturbed, then compared."""
