"""Deletion: what one would reach, the plan, the trash."""
