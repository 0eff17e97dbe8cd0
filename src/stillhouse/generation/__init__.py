"""Batched local generation: the same loop for teachers and for evaluating students."""
