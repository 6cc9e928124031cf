"""The voyage: one real image through the whole suite, as `./task demo` sails it."""
