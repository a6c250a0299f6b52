"""What `shoal.reduction` needs beyond a pickler: sending code by value, and finding out what could not be pickled.

Both are for the second attempt, after the interpreter's own pickler has failed; nothing here is imported before that.
"""
