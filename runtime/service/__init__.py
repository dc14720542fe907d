"""teleport.yaml and flags in, checked settings out; nothing here starts anything that settings do not ask for."""
