"""What to do with idle GPUs: lend them inside, backfill, lease, buy or not, and where a plan fits. Advice with its evidence."""
