"""Students: so far how models are scored (``scores``). Training is not built yet."""
