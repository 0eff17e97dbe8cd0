"""Read the environment, the home's config file and recipes: once, at the edge, into frozen options."""
