"""What `shoal.reduction` and those who use it need beyond a pickler.

Sending code by value, and finding out what could not be pickled, are for the second attempt, after the interpreter's own pickler has failed, and are not
imported before that. Registrations that end are for types that come and go; a payload is what a child is given to start with.
"""
