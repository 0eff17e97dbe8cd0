"""Every GPU-second in exactly one state, and every cent of a bill with whoever used it."""
