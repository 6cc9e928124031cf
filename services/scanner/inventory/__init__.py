"""Inventory: which packages the files of an image say are installed, one file here for each kind of package."""
