"""The only package that uses ``ffi`` and ``lib``, the two objects of the C library.

Its functions take and return Python types.  Every status but OK becomes an exception: by the
table ``check.EXCEPTIONS``, or by the table of errnos when the status says no more than the errno.
csrc/msalex.h says what each C function does and promises.
"""
