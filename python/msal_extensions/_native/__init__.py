"""The door to the C library: only this package sees ``ffi`` and ``lib``.

Python types go in and come out.  A status that is not OK becomes an exception here, by the one
table ``check.EXCEPTIONS``, or by the table of errnos where the status says no more than the errno
does.  What each function does and promises stands in csrc/msalex.h.
"""
