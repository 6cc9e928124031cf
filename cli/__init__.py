"""`entrepot`, the command line: it speaks to the services' HTTP faces, and knows of the code only what is shared."""
