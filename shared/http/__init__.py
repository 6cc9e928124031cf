"""HTTP as every service speaks it: one middleware, Google's error bodies, pages, masks, etags and operations."""
