"""kopf's edge: one file per kind. A handler unpacks what kopf gives, calls a plain function, and patches the status."""
