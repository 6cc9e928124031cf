"""Notes and occurrences that callers wrote, beside those that are the scanner's own."""
