"""Rebuilding: what state forgot comes back from the bucket and from what was said.

Writes snapshots of the records into the bucket from time to time; a rebuild loads the newest whole one, replays the
events behind it, lets the facts have the last word, and hands the counters on.
"""
