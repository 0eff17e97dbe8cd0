"""Batched local generation: the same loop for teachers and for evaluating students.

A fixed batch plan (``batches``), a loaded model (``model``), a decode loop (``decode``) and exact sampling
(``sampling``). The plan fixes which rows run together, and every row draws from its own stream of random numbers, so a
run that was killed and started again produces the same answers.
"""
