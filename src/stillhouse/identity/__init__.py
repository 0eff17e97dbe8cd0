"""Who signs. So far: the key of a home; people, roles and a roster come later."""
