"""Conversations as APIs and files write them: content, answers, streams, usage. Pure, and the only reader of each."""
